# SPDX-License-Identifier: Apache-2.0
"""What of a run is measured: warm-up beyond the marked steps is found and left out, outliers are found and kept."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hpc_dl.runlog.records import Run, Window
from hpc_dl.scaling.statistics import Mean, mean_of_windows

FENCE = 3.0
"""Quartile distances beyond the quartiles where a window counts as far out (Tukey, Exploratory Data Analysis, 1977)."""
SMALLEST_FENCE = 0.01
"""... but never closer than 1 % of the median: so little is no warm-up."""
FEWEST = 8
"""Windows below which no warm-up is looked for."""


@dataclass(frozen=True)
class Measured:
    """A run and the windows its numbers come from."""

    run: Run
    windows: tuple[Window, ...]
    warmup_found: int
    """Windows after the marked warm-up that were left out, since they were still unlike the later half of the run."""
    settled: bool
    """False where the whole first half was unlike the second: the run drifts, or is all warm-up."""

    @cached_property
    def cost(self) -> Mean:
        """Seconds per sample: the slowest rank's seconds over the samples of all ranks."""
        return mean_of_windows([w.samples for w in self.windows], [w.seconds.max for w in self.windows])

    @property
    def steps(self) -> int:
        """Measured steps."""
        return sum(window.steps for window in self.windows)

    @cached_property
    def outliers(self) -> tuple[Window, ...]:
        """Windows whose seconds per sample lie far out; they count like all others."""
        costs = window_costs(self.windows)
        low, high = fences(costs)
        return tuple(w for w, cost in zip(self.windows, costs, strict=True) if not low <= cost <= high)


def measure(run: Run) -> Measured:
    """The steady part of a run.

    Windows are left out from the start for as long as their seconds per sample lie outside the fences of the run's
    later half, at most up to the half. Slow starts (caches, autotuning) and fast ones (clocks before they throttle)
    are both found; a single far-out window later in the run is an outlier, not warm-up.
    """
    marked = run.steady
    if len(marked) < FEWEST:
        return Measured(run, marked, 0, True)
    costs = window_costs(marked)
    half = len(costs) // 2
    low, high = fences(costs[half:])
    inside = (costs[:half] >= low) & (costs[:half] <= high)
    found = int(np.argmax(inside)) if inside.any() else half
    return Measured(run, marked[found:], found, bool(inside.any()))


def window_costs(windows: tuple[Window, ...]) -> NDArray[np.float64]:
    """Seconds per sample of each window."""
    return np.array([window.seconds.max / window.samples for window in windows])


def fences(costs: NDArray[np.float64]) -> tuple[float, float]:
    """The smallest and largest value that is not far out."""
    lower, middle, upper = np.quantile(costs, [0.25, 0.5, 0.75])
    reach = max(FENCE * (upper - lower), SMALLEST_FENCE * middle)
    return float(lower - reach), float(upper + reach)
