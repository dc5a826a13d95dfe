# SPDX-License-Identifier: Apache-2.0
"""A synchronous step lasts as long as its slowest rank: expected maxima over p ranks.

Independent normal times: mean + sigma m(p). Exponential tail: mean + theta H_p. A slow node is no distribution: it is
added as it is.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from scipy import integrate, special


@functools.lru_cache(maxsize=4096)
def normal_maximum(p: int) -> float:
    """Expected largest of p independent standard normal values, by quadrature of the order statistic.

    E[max] = integral of x d(Phi(x)^p) = integral over x>0 of [1 - Phi(x)^p - Phi(-x)^p] dx (David and Nagaraja 2003).

    >>> round(normal_maximum(8), 2)
    1.42
    """
    if p == 1:
        return 0.0

    def tail(x: float) -> float:
        return -math.expm1(p * special.log_ndtr(x)) - math.exp(p * special.log_ndtr(-x))

    value, _ = integrate.quad(tail, 0.0, math.sqrt(2 * math.log(p)) + 8.0, limit=200, epsabs=1e-10)
    return float(value)


def exponential_maximum(p: int) -> float:
    """Expected largest of p independent exponential values of mean 1: the harmonic number H_p."""
    return float(special.digamma(p + 1) + np.euler_gamma)


def normal_range(p: int) -> float:
    """Expected distance between largest and smallest of p independent standard normal values."""
    return 2 * normal_maximum(p)


def jitter_from_range(seconds: float, p: int) -> float:
    """The standard deviation between ranks that a spread (slowest minus fastest) over p ranks points to."""
    return seconds / normal_range(p) if p > 1 else 0.0
