# SPDX-License-Identifier: Apache-2.0
"""Means of costs with their standard errors, and intervals of quotients: autocorrelated windows, independent repeats.

A cost is seconds per sample; throughput is its inverse, speed-up and efficiency are quotients of costs. Costs are
averaged arithmetically, so rates come out as harmonic means (Hoefler and Belli, SC15, rules 3 and 4).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.fft import dct
from scipy.special import stdtrit

LEVEL = 0.95


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


def cosines(count: int) -> int:
    """How many cosines the long-run variance of `count` values rests on: 0.4 count^(2/3).

    Source: Lazarus, Lewis, Stock and Watson, HAR Inference: Recommendations for Practice, JBES 36 (2018), eq. 4.
    """
    return min(count - 1, max(1, round(0.4 * count ** (2 / 3))))


def long_run_variance(values: Sequence[float]) -> tuple[float, int]:
    """Variance of the mean times the number of values, and its degrees of freedom, for a series in order of time.

    The equal-weighted cosine estimator: the mean square of the lowest cosine coefficients. For independent normal
    values, mean / error follows Student's t exactly; slow fluctuations, which neighbouring windows share, raise it.
    Source: Lazarus, Lewis, Stock and Watson (2018), section 3.
    """
    series = np.asarray(values, dtype=float)
    if len(series) < 2:
        return math.nan, 0
    lowest = dct(series - series.mean(), type=2, norm="ortho")[1 : cosines(len(series)) + 1]
    return float(np.mean(lowest**2)), len(lowest)


def mean_of_windows(samples: Sequence[float], seconds: Sequence[float]) -> Mean:
    """Seconds per sample of one run: total over total, with the error of a ratio of sums of correlated windows."""
    counts, times = np.asarray(samples, dtype=float), np.asarray(seconds, dtype=float)
    cost = times.sum() / counts.sum()
    variance, freedom = long_run_variance(times - cost * counts)
    return Mean(float(cost), math.sqrt(variance * len(times)) / float(counts.sum()), freedom)


def mean_of_repeats(costs: Sequence[float]) -> Mean:
    """Seconds per sample over repeats of a job, each repeat one independent observation."""
    values = np.asarray(costs, dtype=float)
    count = len(values)
    error = float(values.std(ddof=1)) / math.sqrt(count) if count > 1 else math.nan
    return Mean(float(values.mean()), error, count - 1)


def inverse(mean: Mean, factor: float = 1.0, level: float = LEVEL) -> Estimate:
    """factor / mean, such as the throughput of a cost."""
    return _interval(factor / mean.value, mean.error / mean.value, mean.freedom, level)


def quotient(top: Mean, bottom: Mean, factor: float = 1.0, level: float = LEVEL) -> Estimate:
    """factor * top / bottom of two independent means; a mean over itself is exact.

    On the logarithm, so as many per cent below as above, with Welch and Satterthwaite's degrees of freedom.
    """
    value = factor * top.value / bottom.value
    if top is bottom:
        return Estimate(value, value, value)
    parts = [(mean.error / mean.value) ** 2 for mean in (top, bottom)]
    if sum(parts) == 0:
        return Estimate(value, value, value)
    freedom = 0.0
    if top.freedom and bottom.freedom:
        weights = sum(part**2 / mean.freedom for part, mean in zip(parts, (top, bottom), strict=True))
        freedom = sum(parts) ** 2 / weights
    return _interval(value, math.sqrt(sum(parts)), freedom, level)


def _interval(value: float, relative_error: float, freedom: float, level: float) -> Estimate:
    if not freedom or math.isnan(relative_error):
        return Estimate(value, math.nan, math.nan)
    reach = math.exp(float(stdtrit(freedom, (1 + level) / 2)) * relative_error)
    return Estimate(value, value / reach, value * reach)
