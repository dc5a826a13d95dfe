# SPDX-License-Identifier: Apache-2.0
"""The report's outline: the same sections in Markdown and in HTML."""

from __future__ import annotations

from dataclasses import dataclass, field

from hpc_dl.report import proof, tables, verdict
from hpc_dl.report.proposal import Proposal, proposal
from hpc_dl.report.study import Study
from hpc_dl.report.table import UNKNOWN, Table, filled
from hpc_dl.report.words import interval, percent, seconds
from hpc_dl.scaling.efficiency import Point
from hpc_dl.scaling.statistics import Estimate


@dataclass(frozen=True)
class Section:
    """A heading, some sentences, pictures by name (see plots.py) and tables."""

    name: str
    title: str
    texts: tuple[str, ...] = ()
    plots: tuple[str, ...] = ()
    tables: tuple[Table, ...] = field(default=())


def outline(study: Study, most_runs: int) -> list[Section]:
    """All sections that have something to say; at most so many runs are listed one by one."""
    found = [
        Section("sizes", "Scaling", _laws(study), ("efficiency", "throughput"), (tables.size_table(study),)),
        *_split(study),
        *_outlook(study),
        _cost(study),
        Section("spread", "Spread of the measurements", (SPREAD,), ("spread",)),
        _proposal(study),
        *_environment(study),
        Section("runs", "Runs", (), (), (tables.run_table(study, most_runs),)),
        *_proof(study),
    ]
    return found


def _proof(study: Study) -> list[Section]:
    found = proof.tables_of(measured.run.folder for measured in study.measured)
    text = "By hpc-dl prove, of the same training in few steps (docs/prove.md)."
    return [Section("proof", "What was shown of the training itself", (text,), (), found)] if found else []


SPREAD = (
    "Every window of every run, as seconds per sample against the median of its size: the box holds the middle half, "
    "the line is the median, whiskers reach to the last window within 1.5 box lengths. Windows beyond are drawn one by "
    "one; none was dropped."
)


def _laws(study: Study) -> tuple[str, ...]:
    if study.scaling != "strong":
        return ()
    fit = tables.amdahl_fit(study)
    limit = f"; a speed-up of {1 / fit.value:.0f} is then the limit" if fit.value > 0 else ""
    return (f"Amdahl's law fits with a serial fraction of {interval(fit)}{limit}.",)


def _split(study: Study) -> list[Section]:
    if not any(found.seconds for found in study.splits):
        return []
    text = (
        "Communication is the part of the exchange that backward did not hide; imbalance is what ranks wait for the "
        "slowest one. Bars show what a sample costs in rank-seconds, the baseline's as 1: a bar of 1.25 is an "
        "efficiency of 80 %."
    )
    return [
        Section("split", "Where the time goes", (text,), ("split",), (tables.split_table(study),)),
        Section("losses", "Where efficiency was lost", (), (), (tables.loss_table(study),)),
    ]


def _outlook(study: Study) -> list[Section]:
    found = study.outlook
    if found.refusal:
        return [Section("outlook", "Beyond the measured sizes", (f"No prediction: {found.refusal}.",))]
    if not found.points:
        return []
    text = (
        f"Predicted from {found.basis}: compute as measured, plus a model of the exchange fitted to it. The first line "
        "is the largest measured size again, as a check. The command hpc-dl predict says what would help most; "
        "docs/predict.md says how well such predictions held."
    )
    return [Section("outlook", "Beyond the measured sizes", (text,), (), (tables.outlook_table(study),))]


def _cost(study: Study) -> Section:
    return Section("cost", "Cost and size", (verdict.advice(study),), (), (tables.cost_table(study),))


def _environment(study: Study) -> list[Section]:
    differing = study.environment.differing
    if study.collection.table:
        return []
    found = [tables.shared_table(study)]
    if differing:
        found.insert(0, tables.difference_table(study))
    text = "" if differing else "All runs had the same environment and settings, but for their size."
    return [Section("environment", "Environment and differences", (text,) if text else (), (), tuple(found))]


def _proposal(study: Study) -> Section:
    title = "Scaling evidence for a proposal"
    found = proposal(study)
    if found is None:
        nodes = study.points[-1].size.nodes
        text = (
            f"All runs are on {nodes} node{'s' if nodes > 1 else ''}. A call for computing time asks for 1 to N nodes, "
            "at least 100 steps at each: add runs on more nodes."
        )
        return Section("proposal", title, (text,))
    return Section("proposal", title, _proposal_texts(study, found), ("nodes",), _proposal_tables(study, found))


def _proposal_texts(study: Study, found: Proposal) -> tuple[str, ...]:
    last = found.points[-1]
    scale = f"From {found.baseline.nodes:,} to {last.size.nodes:,} nodes the efficiency is {percent(last.efficiency)}."
    basis = "Steady steps after warm-up; seconds of the slowest rank"
    if study.collection.table:
        basis = f"Samples and seconds as in {study.collection.table}"
    texts = [f"{_work(study, last)} {scale}", f"{basis}; 95 % intervals in brackets."]
    best = found.recommendation.point
    if best is not None:
        texts.append(
            f"To keep {100 * found.recommendation.target:g} % of the efficiency of the smallest size, use up to "
            f"{best.size.nodes:,} nodes."
        )
    if found.request is not None and best is not None:
        texts.append(
            f"{study.question.epochs:,} epochs on {best.size.nodes:,} nodes take {interval(found.request)} node-hours, "
            "without start-up, evaluation, checkpoints, failed jobs and searches."
        )
    return tuple(texts)


def _work(study: Study, last: Point) -> str:
    """What was trained, and how, as far as it is known."""
    head, kind = study.baseline.header, verdict.RULES[study.scaling].lower()
    if study.collection.table:
        return f"{study.name}, {kind}."
    return (
        f"{study.name}: {head.parameters:,} parameters, {head.precision}, {kind} on {head.device}, gradients averaged "
        f"by {last.size.header.engine} over {last.size.header.backend}."
    )


def _proposal_tables(study: Study, found: Proposal) -> tuple[Table, ...]:
    costs = {point.size.world_size: cost for point, cost in zip(study.points, study.costs, strict=True)}
    rows = tuple(
        (
            f"{point.size.nodes:,}",
            f"{point.size.world_size:,}",
            f"{len(point.size.runs):,}",
            _count(min(measured.steps for measured in point.size.runs)),
            seconds(point.step_seconds.value),
            interval(point.throughput),
            interval(point.speedup),
            percent(point.efficiency),
            _per_epoch(costs[point.size.world_size].node_hours_per_epoch),
        )
        for point in found.points
    )
    headings = (
        "Nodes",
        "Ranks",
        "Runs",
        "Steps",
        "Step",
        "Samples/s",
        "Speed-up",
        "Efficiency",
        "Node-hours per epoch",
    )
    checks = tuple((check.demand, "yes" if check.met else "NO", check.found) for check in found.checks)
    return filled(Table(headings, rows)), Table(("What calls ask for", "Met", "Found"), checks, words=3)


def _per_epoch(hours: Estimate | None) -> str:
    return interval(hours) if hours else UNKNOWN


def _count(number: int) -> str:
    return f"{number:,}" if number else UNKNOWN
