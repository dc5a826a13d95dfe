# SPDX-License-Identifier: Apache-2.0
"""A scaling study: everything a report says, worked out once, before any of it is written in HTML, Markdown or JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hpc_dl.errors import HpcDlError
from hpc_dl.predict.outlook import Outlook, look_ahead
from hpc_dl.report.caveats import caveats
from hpc_dl.report.note import Note
from hpc_dl.scaling.comparable import Scaling, decide_scaling
from hpc_dl.scaling.cost import Cost, Recommendation, cost, recommend
from hpc_dl.scaling.differences import Environment, compare_environments
from hpc_dl.scaling.efficiency import Point, Size, choose_baseline, points, sizes
from hpc_dl.scaling.measurements import SUFFIX, read_table, scaling_of
from hpc_dl.scaling.runs import Collection, collect
from hpc_dl.scaling.split import Split, lost, split
from hpc_dl.scaling.steady import Measured


@dataclass(frozen=True)
class Question:
    """What a reader wants to know of the runs."""

    baseline: str = "smallest"
    """What efficiency refers to: smallest, one-rank, one-node, or the name of a run."""
    target: float = 0.8
    """The efficiency that a recommended size has to keep."""
    epochs: int = 0
    """Epochs to ask computing time for; 0 for none."""
    predict: bool = False
    """Whether to look beyond the measured sizes."""
    machine: str = ""
    """Name of the machine record a prediction may use; empty for none."""

    def __post_init__(self) -> None:
        if not 0 < self.target <= 1:
            raise HpcDlError(f"target efficiency {self.target}", "out of range", "give a value above 0, at most 1")
        if self.epochs < 0:
            raise HpcDlError(f"epochs {self.epochs}", "out of range", "give 0 or more")


@dataclass(frozen=True)
class Findings:
    """Runs that can be compared, and what was measured."""

    question: Question
    collection: Collection
    scaling: Scaling
    baseline: Size
    points: tuple[Point, ...]
    splits: tuple[Split, ...]
    """In the order of the points; without parts where the logs have none."""
    environment: Environment

    @property
    def measured(self) -> tuple[Measured, ...]:
        """All runs, smallest first."""
        return tuple(measured for point in self.points for measured in point.size.runs)


@dataclass(frozen=True)
class Study(Findings):
    """The findings and what follows from them."""

    losses: tuple[dict[str, float], ...]
    """Per point, efficiency lost to each cause; empty where a log has no phases."""
    costs: tuple[Cost, ...]
    recommendation: Recommendation
    notes: tuple[Note, ...]
    outlook: Outlook
    """Predicted sizes, their efficiency against this study's baseline."""

    @property
    def name(self) -> str:
        """What was trained."""
        return self.baseline.header.name


def read_study(paths: Sequence[Path], question: Question | None = None) -> Study:
    """The study of the runs in `paths`, or of a CSV file; refuses, by name, what cannot be compared."""
    tables = [path for path in paths if path.suffix.lower() == SUFFIX]
    if tables and len(paths) > 1:
        asked = ", ".join(map(str, paths))
        raise HpcDlError(f"report of {asked}", "a table cannot stand beside others", f"report {tables[0]} on its own")
    return build_study(read_table(tables[0]) if tables else collect(paths), question or Question())


def build_study(collection: Collection, question: Question) -> Study:
    """The study of runs already read."""
    scaling = scaling_of(collection) if collection.table else decide_scaling(collection.runs)
    measured = sizes(collection.runs)
    baseline = choose_baseline(measured, question.baseline)
    findings = Findings(
        question=question,
        collection=collection,
        scaling=scaling,
        baseline=baseline,
        points=points(measured, baseline),
        splits=tuple(split(size) for size in measured),
        environment=Environment((), ()) if collection.table else compare_environments(collection.runs),
    )
    reference = findings.splits[measured.index(baseline)]
    return Study(
        **vars(findings),
        losses=tuple(
            lost(found, reference) if found.seconds and reference.seconds else {} for found in findings.splits
        ),
        costs=tuple(cost(point, point.size.header.epoch_samples) for point in findings.points),
        recommendation=recommend(findings.points, question.target),
        notes=caveats(findings),
        outlook=_outlook(findings),
    )


def _outlook(findings: Findings) -> Outlook:
    if not findings.question.predict or findings.scaling == "one size":
        return Outlook()
    if findings.collection.table:
        why = "it needs the parts of a step and the size of the gradient, which a table does not tell"
        return Outlook(refusal=why if findings.question.machine else "")
    found = look_ahead(findings.collection.runs, findings.question.machine)
    smallest = findings.points[
        0
    ].efficiency.value  # predictions refer to the smallest size, which may not be the baseline
    points = tuple(replace(ahead, efficiency=ahead.efficiency.scaled(smallest)) for ahead in found.points)
    return replace(found, points=points)
