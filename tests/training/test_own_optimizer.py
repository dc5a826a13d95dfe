# SPDX-License-Identifier: Apache-2.0
"""The Trainer with an optimizer of one's own: each group keeps its rate, and the schedule is a factor of it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

import hpc_dl
from hpc_dl.data.base import Arrays, Data
from hpc_dl.settings import DeviceSettings, LogSettings, ScheduleSettings, Settings, TrainingSettings
from hpc_dl.training.optimizers import set_rates
from hpc_dl.training.schedule import decay_factor

STEPS = 6
INPUTS = torch.randn(STEPS * 4, 3, generator=torch.Generator().manual_seed(1))


def two_groups(model: nn.Module, kind: Callable[..., Optimizer] = SGD) -> Optimizer:
    first, second = model.children()
    return kind([{"params": first.parameters(), "lr": 0.5}, {"params": second.parameters(), "lr": 0.01}])


def fit(model: nn.Module, optimizer: Optimizer, schedule: ScheduleSettings, folder: Path) -> None:
    settings = Settings(
        training=TrainingSettings(steps=STEPS, local_batch=4),
        schedule=schedule,
        device=DeviceSettings(name="cpu", threads=1),
        log=LogSettings(progress="none"),
    )
    part = Arrays(INPUTS, INPUTS[:, :1])
    with hpc_dl.start(device=settings.device, environ={}) as session:
        session.distribute(model, optimizer)
        hpc_dl.Trainer(model, optimizer, nn.functional.mse_loss, session, settings, folder, {}).fit(Data(part, part))


@pytest.mark.parametrize("kind", [SGD, AdamW])
def test_groups_learn_at_their_own_rates_under_a_schedule(kind: Callable[..., Optimizer], tmp_path: Path) -> None:
    """Against the same steps with torch's LambdaLR, which knows nothing of us."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1))
    theirs = copy.deepcopy(model)
    schedule = ScheduleSettings(decay="cosine", final_fraction=0.1)
    fit(model, two_groups(model, kind), schedule, tmp_path)

    optimizer = two_groups(theirs, kind)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: decay_factor(step, STEPS - 1, schedule))
    plan = hpc_dl.data.sharding.Plan(samples=len(INPUTS), local_batch=4)
    for step in range(STEPS):
        x = INPUTS[plan.batch(0, step)[0]]
        optimizer.zero_grad()
        nn.functional.mse_loss(theirs(x), x[:, :1]).backward()
        optimizer.step()
        scheduler.step()
    for ours, expected in zip(model.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(ours, expected)


def test_without_a_schedule_the_rates_are_untouched_and_a_second_trainer_sees_the_first_ones(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1))
    optimizer = two_groups(model)
    fit(model, optimizer, ScheduleSettings(), tmp_path / "plain")
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.01]
    for name in ("first", "second"):
        fit(model, optimizer, ScheduleSettings(decay="polynomial", final_fraction=0.5), tmp_path / name)
        assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.005]


def test_a_rate_that_is_a_tensor_stays_the_same_tensor_and_late_groups_are_taken_in() -> None:
    rate = torch.tensor(0.5)
    optimizer = torch.optim.Adam([nn.Parameter(torch.zeros(1))], lr=rate)
    assert set_rates(optimizer, 0.5) == 0.25
    optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(2))], "lr": 0.125})
    assert set_rates(optimizer, 2.0) == 1.0
    assert optimizer.param_groups[0]["lr"] is rate
    assert optimizer.param_groups[1]["lr"] == 0.25
