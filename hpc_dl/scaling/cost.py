# SPDX-License-Identifier: Apache-2.0
"""What training costs at each size, and how many nodes to ask for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hpc_dl.scaling.efficiency import Point
from hpc_dl.scaling.statistics import Estimate

SECONDS_PER_HOUR = 3600.0
MILLION = 1_000_000


@dataclass(frozen=True)
class Cost:
    """Node-hours and time at one size."""

    node_hours_per_million: Estimate
    """Node-hours for a million samples."""
    node_hours_per_epoch: Estimate | None
    """None where the log does not say how many samples an epoch has."""
    epoch_seconds: Estimate | None


def cost(point: Point, epoch_samples: int) -> Cost:
    """Steady cost: start-up, evaluation and checkpoints come on top."""
    if not epoch_samples:
        return Cost(_node_hours(point, MILLION), None, None)
    return Cost(_node_hours(point, MILLION), _node_hours(point, epoch_samples), _seconds(point, epoch_samples))


def _seconds(point: Point, samples: int) -> Estimate:
    rate = point.throughput
    return Estimate(samples / rate.value, samples / rate.high, samples / rate.low)


def _node_hours(point: Point, samples: int) -> Estimate:
    return _seconds(point, samples).scaled(point.size.nodes / SECONDS_PER_HOUR)


@dataclass(frozen=True)
class Recommendation:
    """The largest measured size that keeps the wanted efficiency."""

    target: float
    point: Point | None
    """None where no size keeps it."""
    certain: bool
    """Whether the whole interval lies at or above the target, not only the value."""
    open_ended: bool
    """Whether it is the largest measured size, so that a larger one might do as well."""


def recommend(points: Sequence[Point], target: float) -> Recommendation:
    """The largest size whose efficiency, and that of all sizes below it, is at least `target`."""
    best: Point | None = None
    for point in points:
        if point.efficiency.value < target:
            break
        best = point
    certain = best is not None and best.efficiency.known and best.efficiency.low >= target
    return Recommendation(target, best, certain, best is points[-1])
