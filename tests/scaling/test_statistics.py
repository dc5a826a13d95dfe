# SPDX-License-Identifier: Apache-2.0
"""Intervals against independent references: scipy, hand-computed cases, and studies of known efficiency."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from hpc_dl.scaling import statistics
from hpc_dl.scaling.statistics import Estimate, Mean
from tests.scaling import coverage


def test_cosines_follow_the_papers_rule() -> None:
    assert [statistics.cosines(count) for count in (2, 10, 40, 100, 1000)] == [1, 2, 5, 9, 40]


def test_long_run_variance_is_the_mean_square_of_the_lowest_cosines() -> None:
    """Written out as sums, as in the paper; values that alternate have no positive correlation to correct for."""
    values = np.array([3.0, -1.0, 2.5, -2.0, 1.5, -0.5, 2.0, -1.5, 1.0, -2.5])
    n = len(values)
    angles = [[math.cos(math.pi * k * (t + 0.5) / n) for t in range(n)] for k in (1, 2)]
    squares = [(math.sqrt(2 / n) * float(np.dot(angle, values))) ** 2 for angle in angles]
    variance, freedom = statistics.long_run_variance(values)
    assert freedom == 2
    assert variance == pytest.approx(sum(squares) / 2)


def test_long_run_variance_of_independent_values_is_their_variance() -> None:
    random = np.random.default_rng(1)
    variances = [statistics.long_run_variance(random.normal(5.0, 2.0, 200))[0] for _ in range(400)]
    assert np.mean(variances) == pytest.approx(4.0, rel=0.05)


@pytest.mark.parametrize("correlation", [0.3, 0.6])
def test_long_run_variance_of_an_autoregression_is_its_power_at_frequency_zero(correlation: float) -> None:
    """(1 + r) / (1 - r) times the variance: the textbook value for a first-order autoregression."""
    random = np.random.default_rng(2)
    series = [coverage.autocorrelated(random, 200, correlation) for _ in range(400)]
    mean = np.mean([statistics.long_run_variance(values)[0] for values in series])
    assert mean == pytest.approx((1 + correlation) / (1 - correlation), rel=0.06)


def test_a_runs_cost_is_total_seconds_over_total_samples() -> None:
    mean = statistics.mean_of_windows([100, 100, 50], [2.0, 4.0, 1.5])
    assert mean.value == pytest.approx(7.5 / 250)


def test_a_smaller_last_batch_is_no_noise() -> None:
    mean = statistics.mean_of_windows([100, 100, 50, 100], [2.0, 2.0, 1.0, 2.0])
    assert mean.error == pytest.approx(0, abs=1e-12)


def test_one_window_has_no_interval() -> None:
    estimate = statistics.inverse(statistics.mean_of_windows([10], [1.0]))
    assert estimate.value == 10.0
    assert not estimate.known


def test_the_mean_of_repeats_agrees_with_scipy() -> None:
    costs = [0.101, 0.098, 0.110, 0.104, 0.099]
    mean = statistics.mean_of_repeats(costs)
    assert mean.value == pytest.approx(np.mean(costs))
    assert mean.error == pytest.approx(stats.sem(costs))
    assert mean.freedom == 4


def test_the_interval_of_a_quotient_agrees_with_scipys_welch_test() -> None:
    """The logarithm makes a quotient a difference: for small spreads Welch's interval of the difference of logs."""
    top = [1.000, 1.002, 0.999, 1.003]
    bottom = [1.101, 1.096, 1.107]
    ours = statistics.quotient(statistics.mean_of_repeats(top), statistics.mean_of_repeats(bottom))
    reference = stats.ttest_ind(np.log(top), np.log(bottom), equal_var=False).confidence_interval(0.95)
    assert math.log(ours.low) == pytest.approx(reference.low, abs=2e-5)
    assert math.log(ours.high) == pytest.approx(reference.high, abs=2e-5)


def test_a_mean_over_itself_is_exact() -> None:
    mean = Mean(2.0, 0.1, 5)
    assert statistics.quotient(mean, mean) == Estimate(1.0, 1.0, 1.0)


def test_the_inverse_of_a_cost_has_its_relative_error() -> None:
    estimate = statistics.inverse(Mean(0.01, 0.0002, 8))
    reach = stats.t.ppf(0.975, 8) * 0.02
    assert estimate.value == pytest.approx(100)
    assert estimate.low == pytest.approx(100 * math.exp(-reach))
    assert estimate.high == pytest.approx(100 * math.exp(reach))


def test_pooled_spread_by_hand() -> None:
    """Group 1: 9, 11 (2 squares of 0.1, one degree of freedom); group 2: 19, 20, 21 (2 squares of 0.05, two)."""
    spread = statistics.spread_of_repeats([[9.0, 11.0], [19.0, 20.0, 21.0]])
    assert spread is not None
    assert spread.freedom == 3
    assert spread.error == pytest.approx(math.sqrt((2 * 0.1**2 + 2 * 0.05**2) / 3))
    assert statistics.spread_of_repeats([]) is None


def test_ten_values_put_the_median_between_the_second_and_the_ninth() -> None:
    values = [5.0, 1.0, 9.0, 3.0, 7.0, 2.0, 10.0, 4.0, 8.0, 6.0]
    assert statistics.median(values) == Estimate(5.5, 2.0, 9.0)


@pytest.mark.parametrize("count", [6, 15, 40, 101])
def test_the_medians_interval_agrees_with_scipys_quantile_test(count: int) -> None:
    values = np.random.default_rng(count).exponential(size=count)
    reference = stats.quantile_test(values, q=0, p=0.5).confidence_interval(0.95)
    ours = statistics.median(list(values))
    assert (ours.low, ours.high) == (reference.low, reference.high)


def test_five_values_give_the_median_no_interval() -> None:
    assert not statistics.median([1.0, 2.0, 3.0, 4.0, 5.0]).known


@pytest.mark.parametrize("kind", coverage.KINDS)
@pytest.mark.parametrize("design", coverage.DESIGNS)
def test_the_interval_holds_as_often_as_it_says(kind: str, design: str) -> None:
    """A small version of `python -m tests.scaling.coverage`: 400 efficiencies, so give or take 2.5 per cent."""
    counts = coverage.measure(coverage.KINDS[kind], coverage.DESIGNS[design], sets=100, seed=7, rivals=False)
    assert 92 <= counts["hpc_dl"].percent <= 98.5


def test_the_measure_of_coverage_can_tell_a_bad_interval() -> None:
    """Windows taken as independent where they are not; standard deviations taken for an error of the mean."""
    kind = coverage.KINDS["autocorrelated"]
    counts = coverage.measure(kind, coverage.DESIGNS["one run of 40 windows"], sets=100, seed=7)
    assert counts["t, windows taken as independent"].percent < 80
    assert counts["bootstrap"].percent < 80
    assert counts["±1.96 standard deviations"].percent > 99
