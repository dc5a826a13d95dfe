# SPDX-License-Identifier: Apache-2.0
"""Numbers as a reader wants them: enough digits, units, intervals."""

from __future__ import annotations

import math

from hpc_dl.scaling.statistics import Estimate


def number(value: float, digits: int = 3) -> str:
    """`value` to so many significant digits, thousands apart, no exponent for everyday sizes.

    >>> number(1234567), number(0.98765), number(12.0), number(0.99999)
    ('1,230,000', '0.988', '12.0', '1.00')
    """
    if math.isnan(value):
        return "–"
    rounded = float(f"{value:.{digits - 1}e}")
    if rounded == 0:
        return "0"
    places = digits - 1 - math.floor(math.log10(abs(rounded)))
    return f"{rounded:,.{max(places, 0)}f}"


def interval(estimate: Estimate, digits: int = 3) -> str:
    """The value with its interval in brackets, where there is one that so many digits, or two more, can show.

    >>> interval(Estimate(0.912, 0.881, 0.944)), interval(Estimate(154000, 153800, 154200))
    ('0.912 (0.881–0.944)', '154,000 (153,800–154,200)')
    """
    for count in range(digits, digits + 3):
        shown, low, high = (number(end, count) for end in (estimate.value, estimate.low, estimate.high))
        if estimate.known and low != high:
            return f"{shown} ({low}–{high})"
    return number(estimate.value, digits)


def percent(estimate: Estimate) -> str:
    """A share in per cent, with its interval.

    >>> percent(Estimate(0.912, 0.881, 0.944))
    '91.2 % (88.1–94.4)'
    """
    shown, low, high = (f"{100 * end:.1f}" for end in (estimate.value, estimate.low, estimate.high))
    return f"{shown} %" if not estimate.known or low == high else f"{shown} % ({low}–{high})"


def seconds(value: float) -> str:
    """A duration in the unit that suits it.

    >>> seconds(0.0123), seconds(75)
    ('12.3 ms', '75.0 s')
    """
    if math.isnan(value):
        return "–"
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= size:
            return f"{number(value / size)} {unit}"
    return f"{number(value * 1e6)} µs"


def points_lost(share: float) -> str:
    """A share of efficiency in points of per cent.

    >>> points_lost(0.1234)
    '12.3'
    """
    return f"{100 * share:.1f}".replace("-0.0", "0.0")
