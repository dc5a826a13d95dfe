# SPDX-License-Identifier: Apache-2.0
"""Expected maxima against sampled ones and against the published table of normal order statistics."""

import numpy as np
import pytest

from hpc_dl.predict.stragglers import exponential_maximum, jitter_from_range, normal_maximum

TABLE = {4: 1.03, 8: 1.42, 16: 1.77, 64: 2.34, 256: 2.83, 1024: 3.25, 4096: 3.63, 12288: 3.90, 40960: 4.19, 98304: 4.38}


@pytest.mark.parametrize(("p", "expected"), TABLE.items())
def test_normal_maximum_is_the_order_statistic(p: int, expected: float) -> None:
    assert normal_maximum(p) == pytest.approx(expected, abs=0.006)


@pytest.mark.parametrize("p", [2, 12, 100])
def test_maxima_equal_sampled_ones(p: int) -> None:
    sample = np.random.default_rng(0)
    assert normal_maximum(p) == pytest.approx(sample.normal(size=(40_000, p)).max(axis=1).mean(), abs=0.02)
    drawn = sample.exponential(size=(40_000, p)).max(axis=1).mean()
    assert exponential_maximum(p) == pytest.approx(drawn, abs=0.04)


def test_two_ranks_have_the_known_closed_forms() -> None:
    assert normal_maximum(2) == pytest.approx(1 / np.sqrt(np.pi), abs=1e-8)
    assert exponential_maximum(2) == pytest.approx(1.5)
    assert normal_maximum(1) == 0


def test_jitter_comes_back_from_a_spread() -> None:
    drawn = np.random.default_rng(1).normal(5, 0.3, size=(20_000, 8))
    spread = float((drawn.max(axis=1) - drawn.min(axis=1)).mean())
    assert jitter_from_range(spread, 8) == pytest.approx(0.3, rel=0.01)
    assert jitter_from_range(0.0, 1) == 0
