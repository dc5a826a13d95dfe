# SPDX-License-Identifier: Apache-2.0
"""2 and 4 ranks with either engine train to the parameters of one process at the same global batch, to 1e-10."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch

from tests.ranks import clean_environment, run, run_ranks

pytestmark = pytest.mark.parallel

# 50 steps of SGD with momentum in float64; 203 samples, so that the last batch of an epoch is smaller and ragged.
PROGRAM = """
import sys, torch
import hpc_dl
from hpc_dl.data.sharding import Plan
from hpc_dl.settings import DeviceSettings, ExchangeSettings
from torch import nn

engine, layout, accumulation, path = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
with hpc_dl.start(ExchangeSettings(engine=engine), DeviceSettings(name="cpu", threads=1)) as session:
    torch.manual_seed(7 + 1000 * session.rank)  # other weights on every rank: distribute must repair that
    shared = nn.Linear(32, 32)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=2), nn.ReLU(), nn.AdaptiveAvgPool2d(2),
        nn.Flatten(), shared, nn.Tanh(), shared, nn.Linear(32, 10),
    ).double()
    model[9].bias.requires_grad_(False)
    model.register_parameter("unused", nn.Parameter(torch.ones(3, dtype=torch.float64)))
    if layout == "channels_last":
        model = model.to(memory_format=torch.channels_last)
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trainable, 0.05, momentum=0.9, weight_decay=0.01)
    session.distribute(model, optimizer, ExchangeSettings(bucket_megabytes=0.004))
    generator = torch.Generator().manual_seed(5)
    inputs = torch.randn(203, 3, 8, 8, generator=generator, dtype=torch.float64)
    target = torch.randint(0, 10, (203,), generator=generator)
    plan = Plan(samples=203, world_size=session.world_size, rank=session.rank, global_batch=24, seed=3)
    for number in range(50):
        epoch, step = divmod(number, plan.steps_per_epoch)
        indices, together = plan.batch(epoch, step)
        optimizer.zero_grad()
        parts = [part for part in torch.from_numpy(indices).tensor_split(accumulation) if len(part)]
        for position, part in enumerate(parts, start=1):
            chosen = inputs[part]
            if layout == "channels_last":
                chosen = chosen.contiguous(memory_format=torch.channels_last)
            loss = nn.functional.cross_entropy(model(chosen), target[part])
            weighted = loss * len(part) * session.world_size / together
            if position < len(parts) and session.world_size > 1:
                with session.exchange.paused():
                    weighted.backward()
            else:
                weighted.backward()
        session.exchange.finish()
        optimizer.step()
    assert model.unused.grad is None and torch.equal(model.unused, torch.ones_like(model.unused))
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    everywhere = session.engine.gather(state)
    if session.rank == 0:
        torch.save(everywhere, path)
"""


@pytest.fixture(scope="module", params=["contiguous", "channels_last"])
def reference(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict]:
    """The layout, and the parameters one process arrives at."""
    path = tmp_path_factory.mktemp("reference") / "one.pt"
    ended = run([sys.executable, "-c", PROGRAM, "single", request.param, "1", str(path)])
    assert ended.code == 0, ended.output
    return request.param, torch.load(path)[0]


@pytest.mark.parametrize(
    ("engine", "ranks", "accumulation"),
    [("horovod", 2, 1), ("horovod", 4, 1), ("torch", 2, 1), ("torch", 4, 1), ("horovod", 2, 4), ("torch", 2, 4)],
)
def test_ranks_train_like_one_process(
    reference: tuple[str, dict], engine: str, ranks: int, accumulation: int, tmp_path: Path
) -> None:
    layout, expected = reference
    path = tmp_path / "many.pt"
    ended = run_ranks(ranks, PROGRAM, engine, layout, str(accumulation), str(path))
    assert ended.code == 0, ended.output
    states = torch.load(path)
    assert len(states) == ranks
    for name, value in expected.items():
        assert torch.allclose(states[0][name], value, rtol=0, atol=1e-10), name
        assert all(torch.equal(state[name], states[0][name]) for state in states), f"ranks differ in {name}"


def test_distribute_alone_serves_a_plain_loop(tmp_path: Path) -> None:
    """Two lines in somebody's loop: the optimizer finishes the exchange by itself."""
    program = """
        import sys, torch, hpc_dl
        model = torch.nn.Linear(4, 1, bias=False)
        optimizer = torch.optim.SGD(model.parameters(), 1.0)
        torch.nn.init.zeros_(model.weight)
        model, optimizer = hpc_dl.distribute(model, optimizer)
        import os
        rank = int(os.environ["PMI_RANK"])
        for _ in range(3):
            optimizer.zero_grad()
            (model(torch.full((1, 4), float(rank + 1))).sum()).backward()
            optimizer.step()
        print(model.weight.tolist()[0][0])
    """
    ended = run_ranks(2, program, environ=clean_environment())
    assert ended.code == 0, ended.output
    # gradient on rank r is r + 1; the mean is 1.5; three steps of rate 1
    assert re.findall(r"-?\d+\.\d+", ended.output) == ["-4.5", "-4.5"]  # the ranks' lines may run into each other
