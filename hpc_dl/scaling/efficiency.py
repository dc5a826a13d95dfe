# SPDX-License-Identifier: Apache-2.0
"""Throughput, speed-up and efficiency of each measured size against a stated baseline, with intervals.

Weak:   E(N) = [X(N) / N] / [X(N0) / N0],  strong: E(N) = N0 T(N0) / (N T(N)),  X = samples/s, T = seconds per step.
Both are c(N0) / c(N) with c = N / X, the rank-seconds that a sample costs; speed-up is X(N) / X(N0).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hpc_dl.errors import HpcDlError
from hpc_dl.scaling.records import Run
from hpc_dl.scaling.runs import label
from hpc_dl.scaling.statistics import Estimate, Mean, inverse, mean_of_repeats, mean_of_windows, quotient

BASELINES = ("smallest", "one-rank", "one-node")


@dataclass(frozen=True)
class Size:
    """All runs at one number of ranks."""

    world_size: int
    nodes: int
    runs: tuple[Run, ...]
    seconds_per_sample: Mean
    unit: str
    """What the interval rests on: "repeats" of the job, or "windows" of the only run."""

    @property
    def global_batch(self) -> int:
        """Samples per step over all ranks."""
        return self.runs[0].header.global_batch


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
    """Repeats of a size combined, smallest size first."""
    groups: dict[int, list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.header.world_size):
        groups.setdefault(run.header.world_size, []).append(run)
    return tuple(_size(group) for group in groups.values())


def run_cost(run: Run) -> Mean:
    """Seconds per sample of a run: the slowest rank's seconds of its steady windows over their samples."""
    return mean_of_windows([w.samples for w in run.steady], [w.seconds.max for w in run.steady])


def _size(group: Sequence[Run]) -> Size:
    costs = [run_cost(run) for run in group]
    repeated = len(costs) > 1
    mean = mean_of_repeats([cost.value for cost in costs]) if repeated else costs[0]
    header = group[0].header
    return Size(header.world_size, header.nodes, tuple(group), mean, "repeats" if repeated else "windows")


def choose_baseline(measured: Sequence[Size], choice: str) -> Size:
    """The size efficiency refers to: smallest, one rank, one (full) node, or that of a run named by `choice`."""
    fitting = {
        "smallest": [measured[0]],
        "one-rank": [size for size in measured if size.world_size == 1],
        "one-node": [size for size in measured if size.nodes == 1],
    }.get(choice) or [size for size in measured if any(choice in (label(run), run.header.run_id) for run in size.runs)]
    if not fitting:
        there = ", ".join(f"{size.world_size} ranks on {size.nodes} nodes" for size in measured)
        raise HpcDlError(
            f"baseline {choice}", f"the runs have {there}", f"choose {', '.join(BASELINES)} or the name of a run"
        )
    return fitting[-1]


def points(measured: Sequence[Size], baseline: Size) -> tuple[Point, ...]:
    """Each size against the baseline."""
    return tuple(_point(size, baseline) for size in measured)


def _point(size: Size, baseline: Size) -> Point:
    cost, reference = size.seconds_per_sample, baseline.seconds_per_sample
    ideal = size.world_size / baseline.world_size
    per_step = inverse(cost, 1.0)
    batch = size.global_batch
    return Point(
        size=size,
        throughput=per_step,
        step_seconds=Estimate(batch / per_step.value, batch / per_step.high, batch / per_step.low),
        speedup=quotient(reference, cost),
        ideal_speedup=ideal,
        efficiency=quotient(reference, cost, 1 / ideal),
    )
