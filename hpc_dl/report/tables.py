# SPDX-License-Identifier: Apache-2.0
"""The tables of a report."""

from __future__ import annotations

from collections.abc import Sequence

from hpc_dl.predict.outlook import PERCENT
from hpc_dl.report.study import Study
from hpc_dl.report.table import UNKNOWN, Table, filled
from hpc_dl.report.words import interval, number, percent, points_lost, seconds
from hpc_dl.scaling import laws
from hpc_dl.scaling.efficiency import Point
from hpc_dl.scaling.runs import label
from hpc_dl.scaling.split import CAUSES, PARTS
from hpc_dl.scaling.statistics import Estimate, median

CAUSE_WORDS = {
    "communication": "communication not hidden by backward",
    "imbalance": "waiting for the slowest rank",
    "input": "input",
    "compute": "slower compute per sample",
    "other": "other",
}


def size_table(study: Study) -> Table:
    """Throughput, speed-up and efficiency per size."""
    headings = ("Ranks", "Nodes", "Efficiency", "Samples/s", "Speed-up", "Ideal", "Step", "Global batch", "Runs")
    return filled(Table(headings, tuple(_size_row(point) for point in study.points)))


def _size_row(point: Point) -> tuple[str, ...]:
    size = point.size
    return (
        f"{size.world_size:,}",
        f"{size.nodes:,}",
        percent(point.efficiency) + (" ?" if point.efficiency.value > 1 else ""),
        interval(point.throughput),
        interval(point.speedup),
        number(point.ideal_speedup),
        seconds(point.step_seconds.value),
        _count(size.header.global_batch),
        f"{len(size.runs):,}",
    )


def _count(value: int) -> str:
    """A number of which 0 means that nobody knows it."""
    return f"{value:,}" if value else UNKNOWN


def split_table(study: Study) -> Table:
    """Milliseconds of a step by part."""
    rows = tuple(
        (f"{found.size.world_size:,}", *(_milliseconds(found.seconds[part]) for part in PARTS), _total(found.seconds))
        for found in study.splits
        if found.seconds
    )
    return Table(("Ranks", *map(str.capitalize, PARTS), "Step"), rows, "Milliseconds per step.")


def _total(parts: dict[str, float]) -> str:
    return _milliseconds(sum(parts.values()))


def _milliseconds(value: float) -> str:
    return number(1000 * value) if abs(value) >= 5e-6 else "0"


def loss_table(study: Study) -> Table:
    """Points of efficiency lost to each cause, and the serial part that the speed-up implies."""
    strong = study.scaling == "strong"
    law = laws.karp_flatt if strong else laws.gustafson
    rows = tuple(
        (
            f"{point.size.world_size:,}",
            f"{100 * point.efficiency.value:.1f}",
            *(points_lost(lost[cause]) for cause in CAUSES),
            interval(law(point.speedup, point.ideal_speedup)) if point.ideal_speedup > 1 else UNKNOWN,
        )
        for point, lost in zip(study.points, study.losses, strict=True)
        if lost
    )
    serial = "Serial fraction (Karp-Flatt)" if strong else "Serial share (Gustafson)"
    caption = "Points of efficiency lost since the baseline; with the efficiency they sum to 100."
    return Table(("Ranks", "Efficiency", *map(str.capitalize, CAUSES), serial), rows, caption)


def amdahl_fit(study: Study) -> Estimate:
    """Amdahl's serial fraction over all sizes."""
    return laws.amdahl([point.speedup.value for point in study.points], [p.ideal_speedup for p in study.points])


def cost_table(study: Study) -> Table:
    """Node-hours and time per size."""
    rows = tuple(
        (
            f"{point.size.world_size:,}",
            f"{point.size.nodes:,}",
            interval(found.node_hours_per_million),
            interval(found.node_hours_per_epoch) if found.node_hours_per_epoch else UNKNOWN,
            seconds(found.epoch_seconds.value) if found.epoch_seconds else UNKNOWN,
        )
        for point, found in zip(study.points, study.costs, strict=True)
    )
    headings = ("Ranks", "Nodes", "Node-hours per million samples", "Node-hours per epoch", "Time per epoch")
    return filled(Table(headings, rows, "Steady training; start-up, evaluation and checkpoints come on top."))


def outlook_table(study: Study) -> Table:
    """Predicted sizes."""
    rows = tuple(
        (
            f"{ahead.world_size:,}",
            f"{ahead.nodes:,}",
            percent(ahead.efficiency),
            interval(ahead.step_seconds.scaled(1000)),
        )
        for ahead in study.outlook.points
    )
    return Table(("Ranks", "Nodes", "Efficiency", "Step (ms)"), rows, f"Predicted; {PERCENT} % intervals in brackets.")


def shared_table(study: Study) -> Table:
    """What all runs have in common."""
    shared = tuple((fact.removeprefix("settings."), value) for fact, value in study.environment.shared)
    return Table(("Fact", "In all runs"), shared, "The same in all runs.", compact=True, words=2)


def difference_table(study: Study, most: int = 8) -> Table:
    """What differs, and in which runs."""
    rows = []
    for difference in study.environment.differing:
        for value, runs in difference.values[:most]:
            ranks = sorted({run.header.world_size for run in runs})
            rows.append(
                (
                    difference.fact.removeprefix("settings."),
                    value,
                    f"{len(runs):,}",
                    _some([f"{count:,}" for count in ranks]),
                )
            )
        if len(difference.values) > most:
            rows.append((difference.fact, f"{len(difference.values) - most:,} more values", "", ""))
    return Table(("Fact", "Value", "Runs", "Ranks"), tuple(rows), words=2)


def _some(words: Sequence[str], most: int = 10) -> str:
    return ", ".join(words[:most]) + (" …" if len(words) > most else "")


RUN_HEADINGS: tuple[str, ...] = (
    "Run",
    "Started (UTC)",
    "Ranks",
    "Windows",
    "Steps",
    "Outliers",
    "Samples/s",
    "Median step (ms)",
)
RUN_HEADINGS += ("Start-up", "First step", "Last evaluation", "End")


def run_table(study: Study, most: int) -> Table:
    """Every run with what was measured, the first `most` of them."""
    measured = study.measured
    rows = []
    for found in measured[:most]:
        header, end = found.run.header, found.run.end
        steps = [window.seconds.max / window.steps for window in found.windows if window.steps]
        final = found.run.evaluations[-1].metrics if found.run.evaluations else {}
        rows.append(
            (
                label(found.run),
                header.started[:16].replace("T", " ") or UNKNOWN,
                f"{header.world_size:,}",
                f"{len(found.windows):,}",
                _count(found.steps),
                f"{len(found.outliers):,}",
                number(1 / found.cost.value, 4),
                interval(median(steps).scaled(1000)) if steps else UNKNOWN,
                seconds(end.startup_seconds) if end else UNKNOWN,
                seconds(end.first_step_seconds) if end else UNKNOWN,
                ", ".join(f"{name} {number(value, 4)}" for name, value in final.items()) or UNKNOWN,
                end.reason if end else UNKNOWN if study.collection.table else "cut short",
            )
        )
    left = len(measured) - most
    more = f" {left:,} more are in report-runs.csv." if left > 0 else ""
    median_is = (
        "" if study.collection.table else "Median over windows of seconds per step, with its rank-based 95 % interval."
    )
    return filled(Table(RUN_HEADINGS, tuple(rows), (median_is + more).strip(), words=2))
