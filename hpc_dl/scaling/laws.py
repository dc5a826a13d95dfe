# SPDX-License-Identifier: Apache-2.0
"""The serial part that a speed-up implies: Karp and Flatt, Amdahl, Gustafson."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy.special import stdtrit

from hpc_dl.scaling.statistics import LEVEL, Estimate


def karp_flatt(speedup: Estimate, ranks: float) -> Estimate:
    """Serial fraction e = (1/S - 1/p) / (1 - 1/p) of a speed-up S on p times the baseline's ranks, fixed problem.

    Constant over p: a serial part. Rising: overhead that grows, such as communication. Falling: caching or a poor
    baseline. Source: Karp and Flatt, Measuring parallel processor performance, CACM 33 (1990).
    """
    return _falling(speedup, lambda s: (1 / s - 1 / ranks) / (1 - 1 / ranks))


def gustafson(speedup: Estimate, ranks: float) -> Estimate:
    """Serial share s = (p - S) / (p - 1) of the parallel run, for a speed-up S with work that grows with p.

    Source: Gustafson, Reevaluating Amdahl's law, CACM 31 (1988): S = p - s (p - 1).
    """
    return _falling(speedup, lambda s: (ranks - s) / (ranks - 1))


def amdahl(speedups: Sequence[float], ranks: Sequence[float], level: float = LEVEL) -> Estimate:
    """The one serial fraction s that fits 1/S = s + (1 - s)/p best, by least squares; p is relative to the baseline.

    Its interval (Student's t from the residuals) is as good as Amdahl's law is for these runs. Points at p = 1 say
    nothing. Source: Amdahl, Validity of the single processor approach, AFIPS (1967).
    """
    p, s = np.asarray(ranks, dtype=float), np.asarray(speedups, dtype=float)
    p, s = p[p > 1], s[p > 1]
    if not len(p):
        return Estimate(math.nan, math.nan, math.nan)
    x, y = 1 - 1 / p, 1 / s - 1 / p
    fraction = float(x @ y / (x @ x))
    freedom = len(p) - 1
    if not freedom:
        return Estimate(fraction, math.nan, math.nan)
    error = math.sqrt(float(np.sum((y - fraction * x) ** 2)) / freedom / float(x @ x))
    reach = float(stdtrit(freedom, (1 + level) / 2)) * error
    return Estimate(fraction, fraction - reach, fraction + reach)


def _falling(estimate: Estimate, law: Callable[[float], float]) -> Estimate:
    """A falling function of an estimate: the ends change places."""
    return Estimate(law(estimate.value), law(estimate.high), law(estimate.low))
