# SPDX-License-Identifier: Apache-2.0
"""The learning rate and the random numbers are functions of the step."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hpc_dl.data.seeds import step_seed
from hpc_dl.settings import ScheduleSettings
from hpc_dl.training.schedule import rate_factor

RATE = 0.1


@pytest.mark.parametrize(("scaling", "factor"), [("linear", 16.0), ("sqrt", 4.0), ("none", 1.0)])
def test_the_rate_grows_with_the_world_as_asked(scaling: str, factor: float) -> None:
    rate = RATE * rate_factor(5, 10, 16, ScheduleSettings(scaling=scaling))  # type: ignore[arg-type]
    assert rate == pytest.approx(0.1 * factor)


def test_warm_up_climbs_from_one_rank_to_all_in_a_straight_line() -> None:
    rates = [RATE * rate_factor(step, 100, 8, ScheduleSettings(warmup_steps=4)) for step in range(6)]
    assert rates == pytest.approx([0.24, 0.38, 0.52, 0.66, 0.8, 0.8])


def test_warm_up_climbs_from_zero_where_the_rate_is_not_scaled() -> None:
    rates = [RATE * rate_factor(step, 100, 1, ScheduleSettings(warmup_steps=4)) for step in range(5)]
    assert rates == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1])


def test_auto_leaves_the_rate_of_a_fixed_global_batch_alone() -> None:
    assert RATE * rate_factor(5, 10, 8, ScheduleSettings(), global_batch_is_fixed=True) == pytest.approx(0.1)
    assert RATE * rate_factor(5, 10, 8, ScheduleSettings()) == pytest.approx(0.8)


def test_cosine_agrees_with_torch() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], 0.1)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=49, eta_min=0.01)
    schedule = ScheduleSettings(decay="cosine", final_fraction=0.1)
    for step in range(50):
        assert RATE * rate_factor(step, 50, 1, schedule) == pytest.approx(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()


def test_step_and_polynomial_decay() -> None:
    steps = ScheduleSettings(decay="step", decay_every_steps=10, decay_factor=0.5)
    assert [RATE * rate_factor(step, 30, 1, steps) for step in (0, 9, 10, 29)] == pytest.approx([0.1, 0.1, 0.05, 0.025])
    line = ScheduleSettings(decay="polynomial", warmup_steps=10)
    assert RATE * rate_factor(10, 21, 1, line) == pytest.approx(0.1)
    assert RATE * rate_factor(15, 21, 1, line) == pytest.approx(0.05)
    assert RATE * rate_factor(20, 21, 1, line) == pytest.approx(0.0)


@given(
    step=st.integers(0, 10_000),
    total=st.integers(1, 10_000),
    warmup=st.integers(0, 500),
    decay=st.sampled_from(["none", "cosine", "step", "polynomial"]),
    world=st.integers(1, 100_000),
)
def test_the_rate_is_finite_and_never_above_its_peak(
    step: int, total: int, warmup: int, decay: str, world: int
) -> None:
    schedule = ScheduleSettings(warmup_steps=warmup, decay=decay)  # type: ignore[arg-type]
    rate = RATE * rate_factor(step, total, world, schedule)
    assert math.isfinite(rate)
    assert 0 <= rate <= 0.1 * world * (1 + 1e-12)


def test_seeds_differ_by_rank_step_and_seed_and_are_evenly_spread() -> None:
    seeds = [step_seed(seed, rank, step) for seed in range(3) for rank in range(50) for step in range(50)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    ones = sum(bin(seed).count("1") for seed in seeds) / len(seeds)
    assert 31 < ones < 32
