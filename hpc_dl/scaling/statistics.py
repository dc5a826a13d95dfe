# SPDX-License-Identifier: Apache-2.0
"""Means of costs with their standard errors, and intervals of quotients: autocorrelated windows, independent repeats.

A cost is seconds per sample; throughput is its inverse, speed-up and efficiency are quotients of costs. Costs are
averaged arithmetically, so rates come out as harmonic means (Hoefler and Belli, SC15, rules 3 and 4).
`python -m tests.scaling.coverage` measures how often the intervals hold, and how often those of other methods do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.fft import dct
from scipy.special import bdtr, stdtrit

LEVEL = 0.95
LARGEST_CORRELATION = 0.9


@dataclass(frozen=True)
class Mean:
    """An estimated mean: its value, standard error and degrees of freedom (0 where one observation gives no error)."""

    value: float
    error: float
    freedom: float


@dataclass(frozen=True)
class Estimate:
    """A number with the ends of its interval; the ends are NaN where the data give none."""

    value: float
    low: float
    high: float

    @property
    def known(self) -> bool:
        """Whether there is an interval."""
        return not math.isnan(self.low)

    def scaled(self, factor: float) -> Estimate:
        """The same in another unit; the factor is positive."""
        return Estimate(factor * self.value, factor * self.low, factor * self.high)


def cosines(count: int) -> int:
    """How many cosines the long-run variance of `count` values rests on: 0.4 count^(2/3).

    Source: Lazarus, Lewis, Stock and Watson, HAR Inference: Recommendations for Practice, JBES 36 (2018), eq. 4.
    """
    return min(count - 1, max(1, round(0.4 * math.pow(count, 2 / 3))))


def long_run_variance(values: ArrayLike) -> tuple[float, int]:
    """Variance of the mean times the number of values, and its degrees of freedom, for a series in order of time.

    The equal-weighted cosine estimator: the mean square of the lowest cosine coefficients. For independent normal
    values, mean / error follows Student's t; slow fluctuations, which neighbouring windows share, raise it.
    Source: Lazarus, Lewis, Stock and Watson (2018), section 3. `_flattening` corrects what it misses in short series.
    """
    series = np.asarray(values, dtype=float)
    if len(series) < 2:
        return math.nan, 0
    deviations = series - series.mean()
    if not deviations.any():
        return 0.0, cosines(len(series))
    lowest = dct(deviations, type=2, norm="ortho")[1 : cosines(len(series)) + 1]
    return float(np.mean(lowest**2)) / _flattening(deviations, len(lowest)), len(lowest)


def _flattening(deviations: NDArray[Any], used: int) -> float:
    """Power at the `used` lowest frequencies over power at frequency 0, for an AR(1) series of the same correlation.

    The correlation is Kendall's (1954), freed of its bias (1 + 3 r) / n, and taken as 0 where it is negative.
    """
    count = len(deviations)
    raw = float(deviations[1:] @ deviations[:-1] / (deviations @ deviations))
    r = min(max(raw + (1 + 3 * raw) / count, 0.0), LARGEST_CORRELATION)
    frequencies = np.pi * np.arange(1, used + 1) / count
    return float(np.mean((1 - r) ** 2 / (1 - 2 * r * np.cos(frequencies) + r**2)))


def mean_of_windows(samples: ArrayLike, seconds: ArrayLike) -> Mean:
    """Seconds per sample of one run: total over total, with the error of a ratio of sums of correlated windows."""
    counts, times = np.asarray(samples, dtype=float), np.asarray(seconds, dtype=float)
    cost = float(times.sum() / counts.sum())
    variance, freedom = long_run_variance(times - cost * counts)
    return Mean(cost, math.sqrt(variance * len(times)) / float(counts.sum()), freedom)


def mean_of_repeats(costs: Sequence[float]) -> Mean:
    """Seconds per sample over repeats of a job, each repeat one independent observation."""
    count = len(costs)
    error = float(np.std(costs, ddof=1)) / math.sqrt(count) if count > 1 else math.nan
    return Mean(float(np.mean(costs)), error, count - 1)


def spread_of_repeats(groups: Sequence[Sequence[float]]) -> Mean | None:
    """Relative standard deviation from job to job, pooled over groups of repeats, as the error of a mean of 1."""
    pooled = sum(float(np.var(np.divide(group, np.mean(group)), ddof=1)) * (len(group) - 1) for group in groups)
    freedom = sum(len(group) - 1 for group in groups)
    return Mean(1.0, math.sqrt(pooled / freedom), freedom) if freedom else None


def inverse(mean: Mean, factor: float = 1.0, level: float = LEVEL) -> Estimate:
    """factor / mean, such as the throughput of a cost."""
    return _interval(factor / mean.value, mean.error / mean.value, mean.freedom, level)


def quotient(top: Mean, bottom: Mean, factor: float = 1.0, level: float = LEVEL) -> Estimate:
    """factor * top / bottom of two independent means; a mean over itself is exact.

    On the logarithm, so as many per cent below as above, with Welch and Satterthwaite's degrees of freedom.
    """
    value = factor * top.value / bottom.value
    parts = [(mean.error / mean.value) ** 2 for mean in (top, bottom)]
    if top is bottom or sum(parts) == 0:
        return Estimate(value, value, value)
    freedom = 0.0
    if top.freedom and bottom.freedom:
        weights = sum(part**2 / mean.freedom for part, mean in zip(parts, (top, bottom), strict=True))
        freedom = sum(parts) ** 2 / weights
    return _interval(value, math.sqrt(sum(parts)), freedom, level)


def _interval(value: float, relative_error: float, freedom: float, level: float) -> Estimate:
    if not freedom or math.isnan(relative_error):
        return Estimate(value, math.nan, math.nan)
    reach = math.exp(min(float(stdtrit(freedom, (1 + level) / 2)) * relative_error, 700.0))
    return Estimate(value, value / reach, value * reach)


def median(values: Sequence[float], level: float = LEVEL) -> Estimate:
    """The median with its rank-based interval, which assumes independent values but no distribution.

    The ends are the k-th smallest and k-th largest value, k the largest rank whose interval holds with probability
    `level`; for 10 values the 2nd and 9th. Source: Conover, Practical Nonparametric Statistics (1999), section 3.2.
    """
    ordered = np.sort(np.asarray(values, dtype=float))
    count = len(ordered)
    tails = bdtr(np.arange(count // 2 + 1), count, 0.5)  # probability that at most so many values lie below the median
    rank = int(np.sum(tails <= (1 - level) / 2))
    middle = float(np.median(ordered))
    if rank == 0:
        return Estimate(middle, math.nan, math.nan)
    return Estimate(middle, float(ordered[rank - 1]), float(ordered[count - rank]))
