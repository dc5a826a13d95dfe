# SPDX-License-Identifier: Apache-2.0
"""Throughput, speed-up and efficiency of each measured size against a stated baseline, with intervals.

Weak:   E(N) = [X(N) / N] / [X(N0) / N0],  strong: E(N) = N0 T(N0) / (N T(N)),  X = samples/s, T = seconds per step.
Both are c(N0) / c(N) with c = N / X, the rank-seconds that a sample costs; speed-up is X(N) / X(N0).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hpc_dl.errors import HpcDlError
from hpc_dl.runlog.records import Header, Run
from hpc_dl.scaling.runs import label
from hpc_dl.scaling.statistics import Estimate, Mean, inverse, mean_of_repeats, quotient, spread_of_repeats
from hpc_dl.scaling.steady import Measured, measure

Basis = Literal["repeats", "windows", "borrowed"]
"""An interval's unit: whole jobs; windows of the only job; the only job with the spread of jobs at other sizes."""
BASELINES = ("smallest", "one-rank", "one-node")


@dataclass(frozen=True)
class Size:
    """All runs at one number of ranks."""

    world_size: int
    nodes: int
    runs: tuple[Measured, ...]
    cost: Mean
    """Seconds per sample."""
    basis: Basis
    """What its error rests on."""

    @property
    def header(self) -> Header:
        """What all runs of this size share is in the header of the first."""
        return self.runs[0].run.header

    @property
    def mean_batch(self) -> float:
        """Samples per step as counted; less than the global batch where the last batch of an epoch is smaller."""
        windows = [window for measured in self.runs for window in measured.windows]
        return sum(window.samples for window in windows) / sum(window.steps for window in windows)


@dataclass(frozen=True)
class Point:
    """One size in the report."""

    size: Size
    throughput: Estimate
    """Samples per second."""
    step_seconds: Estimate
    """Seconds per full global batch."""
    speedup: Estimate
    """Throughput over the baseline's."""
    ideal_speedup: float
    efficiency: Estimate


def sizes(runs: Sequence[Run]) -> tuple[Size, ...]:
    """Repeats of a size combined, smallest size first.

    A size that was run once among sizes with repeats borrows their spread from job to job, in per cent of the mean.
    """
    groups: dict[int, list[Measured]] = {}
    for run in sorted(runs, key=lambda run: run.header.world_size):
        groups.setdefault(run.header.world_size, []).append(measure(run))
    repeats = [[measured.cost.value for measured in group] for group in groups.values() if len(group) > 1]
    spread = spread_of_repeats(repeats)
    return tuple(_size(group, spread) for group in groups.values())


def _size(group: Sequence[Measured], spread: Mean | None) -> Size:
    basis: Basis
    if len(group) > 1:
        cost, basis = mean_of_repeats([measured.cost.value for measured in group]), "repeats"
    else:
        cost, basis = group[0].cost, "windows"
        if spread and not spread.error * cost.value < cost.error:
            cost, basis = Mean(cost.value, spread.error * cost.value, spread.freedom), "borrowed"
    header = group[0].run.header
    return Size(header.world_size, header.nodes, tuple(group), cost, basis)


def choose_baseline(measured: Sequence[Size], choice: str) -> Size:
    """The size efficiency refers to: smallest, one rank, one (full) node, or that of a run named by `choice`."""
    fitting = {
        "smallest": [measured[0]],
        "one-rank": [size for size in measured if size.world_size == 1],
        "one-node": [size for size in measured if size.nodes == 1],
    }.get(choice) or [size for size in measured if choice in _names(size)]
    if not fitting:
        there = ", ".join(f"{size.world_size} ranks on {size.nodes} nodes" for size in measured)
        raise HpcDlError(
            f"baseline {choice}", f"the runs have {there}", f"choose {', '.join(BASELINES)} or the name of a run"
        )
    return fitting[-1]


def _names(size: Size) -> set[str]:
    return {name for measured in size.runs for name in (label(measured.run), measured.run.header.run_id)}


def points(measured: Sequence[Size], baseline: Size) -> tuple[Point, ...]:
    """Each size against the baseline."""
    return tuple(_point(size, baseline) for size in measured)


def _point(size: Size, baseline: Size) -> Point:
    cost, reference = size.cost, baseline.cost
    ideal = size.world_size / baseline.world_size
    per_step = inverse(cost, 1.0)
    batch = size.header.global_batch or math.nan  # a table of measurements tells none
    return Point(
        size=size,
        throughput=per_step,
        step_seconds=Estimate(batch / per_step.value, batch / per_step.high, batch / per_step.low),
        speedup=quotient(reference, cost),
        ideal_speedup=ideal,
        efficiency=quotient(reference, cost, 1 / ideal),
    )
