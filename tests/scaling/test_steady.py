# SPDX-License-Identifier: Apache-2.0
"""Warm-up beyond the marked steps is found and stated; outliers stay."""

from __future__ import annotations

import numpy as np
import pytest

from hpc_dl.scaling.steady import FEWEST, fences, measure
from tests.scaling import synthetic

FLAT = [1.0, 1.01, 0.99, 1.0, 1.02, 0.98, 1.0, 1.01, 0.99, 1.0]
HEADER = synthetic.header(2)


@pytest.mark.parametrize("start", [[3.0], [3.0, 2.0, 1.4], [0.7, 0.8]], ids=["slow", "slower than marked", "fast"])
def test_windows_unlike_the_rest_are_left_out_from_the_start(start: list[float]) -> None:
    measured = measure(synthetic.run(HEADER, [*start, *FLAT]))
    assert measured.warmup_found == len(start)
    assert [window.seconds.max for window in measured.windows] == FLAT
    assert measured.settled


def test_a_steady_run_loses_nothing() -> None:
    assert measure(synthetic.run(HEADER, FLAT)).warmup_found == 0


def test_an_outlier_later_on_is_shown_and_kept() -> None:
    measured = measure(synthetic.run(HEADER, [*FLAT, 9.0, *FLAT]))
    assert measured.warmup_found == 0
    assert [window.seconds.max for window in measured.outliers] == [9.0]
    assert measured.cost.value == pytest.approx((sum(FLAT) * 2 + 9.0) / 21 / (10 * HEADER.global_batch))


def test_a_run_that_never_settles_says_so() -> None:
    measured = measure(synthetic.run(HEADER, [2.0] * 5 + [1.0] * 5))
    assert not measured.settled
    assert measured.warmup_found == 5


def test_too_few_windows_are_taken_as_they_are() -> None:
    measured = measure(synthetic.run(HEADER, [3.0] + [1.0] * (FEWEST - 2)))
    assert measured.warmup_found == 0


def test_the_fences_by_hand() -> None:
    assert fences(np.array([1.0, 2.0, 3.0, 4.0, 5.0])) == (2 - 3 * 2, 4 + 3 * 2)
    assert fences(np.ones(9)) == pytest.approx((0.99, 1.01))


def test_noise_alone_is_seldom_taken_for_warmup() -> None:
    random = np.random.default_rng(3)
    found = [measure(synthetic.run(HEADER, random.normal(1.0, 0.05, 20))).warmup_found for _ in range(500)]
    assert sum(count > 0 for count in found) <= 15
