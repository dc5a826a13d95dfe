# SPDX-License-Identifier: Apache-2.0
"""fp16: a step that overflows on any rank is skipped by all, and by none otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from hpc_dl.cluster.rank import RankRecord
from hpc_dl.devices import choose
from tests.ranks import run_ranks

CPU = choose("cpu", RankRecord(0, 1, 0, 1, 0, "test"), int, {})


def test_an_overflow_skips_the_step_and_halves_the_scale() -> None:
    parameter = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([parameter], 1.0)
    scaler = CPU.scaler("fp16")
    skipped = []
    for step in range(4):
        optimizer.zero_grad()
        scaler.scale(parameter.sum() * (float("inf") if step == 1 else 1.0)).backward()
        scaler.step(optimizer)
        scaler.update()
        skipped.append(scaler.skipped)
    assert skipped == [False, True, False, False]
    assert parameter.tolist() == [-2.0] * 3
    assert scaler.get_scale() == 2.0**15


def test_another_ranks_overflow_counts_as_ones_own() -> None:
    parameter = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([parameter], 1.0)
    scaler = CPU.scaler("fp16", agree=lambda finding: finding.fill_(1.0))
    scaler.scale(parameter.sum()).backward()
    scaler.step(optimizer)
    assert scaler.skipped
    assert parameter.tolist() == [1.0] * 3


def test_a_rank_without_gradients_votes_too() -> None:
    votes: list[Tensor] = []
    scaler = CPU.scaler("fp16", agree=votes.append)
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(3))], 1.0)
    scaler.step(optimizer)
    assert [vote.item() for vote in votes] == [0.0]


def test_the_scale_survives_a_checkpoint() -> None:
    first, second = CPU.scaler("fp16"), CPU.scaler("fp16")
    first.update(2.0**7)
    second.load_state_dict(first.state_dict())
    assert second.get_scale() == 2.0**7


# Rank 1's gradient overflows in step 2; in step 4 a gradient overflows that is not exchanged at all, on rank 0.
PROGRAM = """
import sys, torch
import hpc_dl
from hpc_dl.settings import DeviceSettings, ExchangeSettings, Settings, TrainingSettings
from hpc_dl.training.objective import PairObjective
from hpc_dl.training.step import Placed, TrainingStep
from torch import nn

engine, folder = sys.argv[1:]
with hpc_dl.start(ExchangeSettings(engine=engine), DeviceSettings(name="cpu", threads=1)) as session:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    apart = nn.Parameter(torch.zeros(()))  # of this rank alone
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    session.distribute(model, optimizer)
    optimizer.add_param_group({"params": [apart]})
    def loss(output, target):
        return ((output - target) ** 2).mean() * loss_factor + apart * apart_factor
    settings = Settings(device=DeviceSettings(precision="fp16"), training=TrainingSettings(clip_norm=1.0))
    step = TrainingStep(model, optimizer, PairObjective(loss), session.exchange, session, settings)
    skipped = []
    for number in range(6):
        loss_factor = 1e38 if (number, session.rank) == (2, 1) else 1e-3
        apart_factor = float("inf") if (number, session.rank) == (4, 0) else 0.0
        generator = torch.Generator().manual_seed(2 * number + session.rank)
        batch = torch.randn(3, 4, generator=generator), torch.randn(3, 1, generator=generator)
        step([Placed(batch, 3)], 6, lambda phase: None)
        skipped.append(step.skipped)
    torch.save((skipped, model.state_dict()), f"{folder}/{session.rank}.pt")
"""


@pytest.mark.parallel
@pytest.mark.parametrize("engine", ["horovod", "torch"])
def test_all_ranks_skip_the_same_steps(engine: str, tmp_path: Path) -> None:
    ended = run_ranks(2, PROGRAM, engine, str(tmp_path))
    assert ended.code == 0, ended.output
    (skipped, state), (others_skipped, others_state) = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert skipped == others_skipped == [False, False, True, False, True, False]
    assert all(torch.equal(value, others_state[name]) for name, value in state.items())
    assert all(value.isfinite().all() for value in state.values())
