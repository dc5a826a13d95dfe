# SPDX-License-Identifier: Apache-2.0
"""Serial parts from speed-ups whose serial part is known."""

from __future__ import annotations

import math

import pytest

from hpc_dl.scaling.laws import amdahl, gustafson, karp_flatt
from hpc_dl.scaling.statistics import Estimate

RANKS = (1, 2, 4, 8, 16)


def speedup(serial: float, ranks: float) -> float:
    return 1 / (serial + (1 - serial) / ranks)


def exact(value: float) -> Estimate:
    return Estimate(value, value, value)


@pytest.mark.parametrize("serial", [0.0, 0.05, 0.3])
def test_karp_flatt_gives_amdahls_serial_fraction_back(serial: float) -> None:
    for ranks in RANKS[1:]:
        assert karp_flatt(exact(speedup(serial, ranks)), ranks).value == pytest.approx(serial)


def test_karp_flatt_of_their_own_example() -> None:
    """CACM 33, table 1: a speed-up of 1.95 on 2 processors is a serial fraction of 0.026."""
    assert karp_flatt(exact(1.95), 2).value == pytest.approx(0.0256, abs=1e-4)


def test_the_ends_of_the_interval_change_places() -> None:
    estimate = karp_flatt(Estimate(3.0, 2.5, 3.5), 4)
    assert estimate.low == pytest.approx((1 / 3.5 - 0.25) / 0.75)
    assert estimate.high == pytest.approx((1 / 2.5 - 0.25) / 0.75)
    assert estimate.low < estimate.value < estimate.high


def test_gustafson_gives_the_serial_share_back() -> None:
    for ranks in RANKS[1:]:
        assert gustafson(exact(ranks - 0.1 * (ranks - 1)), ranks).value == pytest.approx(0.1)


def test_amdahl_fits_the_serial_fraction() -> None:
    fit = amdahl([speedup(0.08, ranks) for ranks in RANKS], RANKS)
    assert fit.value == pytest.approx(0.08)
    assert fit.high - fit.low == pytest.approx(0, abs=1e-6)


def test_amdahl_with_residuals_by_hand() -> None:
    """x = (1/2, 3/4), y = 1/S - 1/p = (0.05, 0.10): s = (0.025 + 0.075) / (0.25 + 0.5625), one degree of freedom."""
    fit = amdahl([1 / 0.55, 1 / 0.35], [2, 4])
    s = 0.1 / 0.8125
    error = math.sqrt(((0.05 - s / 2) ** 2 + (0.1 - 0.75 * s) ** 2) / 0.8125)
    assert fit.value == pytest.approx(s)
    assert fit.high == pytest.approx(s + 12.706 * error, rel=1e-4)


def test_one_size_has_no_law() -> None:
    assert math.isnan(amdahl([1.0], [1]).value)
    assert not amdahl([1.9], [2]).known
