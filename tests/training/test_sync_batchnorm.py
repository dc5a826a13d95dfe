# SPDX-License-Identifier: Apache-2.0
"""Batch normalisation over ranks against one process on the whole batch, in float64 to 1e-9."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from hpc_dl.comm.single import SingleEngine
from hpc_dl.comm.sync_batchnorm import SyncBatchNorm, convert, together_of
from tests.ranks import run_ranks

# The samples of rank r are SPLIT[r] of the batch; a rank without samples stands in with zeros that do not count.
PROGRAM = """
import sys, torch
import hpc_dl
from hpc_dl.settings import DeviceSettings, ExchangeSettings
from hpc_dl.comm.sync_batchnorm import convert, together_of
from tests.training.test_sync_batchnorm import STEPS, make_batch, make_model, weighted_loss

engine, split, folder = sys.argv[1], [int(n) for n in sys.argv[2].split(",")], sys.argv[3]
with hpc_dl.start(ExchangeSettings(engine=engine), DeviceSettings(name="cpu", threads=1)) as session:
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    model = convert(model, session.engine)
    session.distribute(model, optimizer, ExchangeSettings(bucket_megabytes=0.0005))
    first = sum(split[: session.rank])
    for step in range(STEPS):
        inputs, target = make_batch(step)
        mine = slice(first, first + split[session.rank])
        optimizer.zero_grad()
        if split[session.rank]:
            loss = weighted_loss(model(inputs[mine]), target[mine], len(inputs))
            (loss * session.world_size).backward()
        else:
            with together_of(model).absent():
                (model(torch.zeros_like(inputs[:1])).sum() * 0).backward()
        optimizer.step()
    model.eval()
    torch.save((model.state_dict(), model(make_batch(99)[0]).detach()), f"{folder}/{session.rank}.pt")
"""
STEPS = 20


def make_model() -> nn.Module:
    torch.manual_seed(1)
    shared = nn.BatchNorm2d(6, momentum=None)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3),
        shared,
        nn.ReLU(),
        nn.Conv2d(6, 6, 1),
        shared,
        nn.Conv2d(6, 4, 3),
        nn.BatchNorm2d(4, affine=False),
        nn.Flatten(),
        nn.Linear(4 * 4 * 4, 8),
        nn.BatchNorm1d(8, track_running_stats=False),
        nn.Tanh(),
        nn.BatchNorm1d(8),
        nn.Linear(8, 5),
    ).double()


def make_batch(step: int) -> tuple[Tensor, Tensor]:
    """7 samples of different size, not centred."""
    generator = torch.Generator().manual_seed(step)
    inputs = torch.randn(7, 3, 8, 8, generator=generator, dtype=torch.float64)
    sizes = torch.arange(1.0, 8.0).view(7, 1, 1, 1)
    return inputs * sizes + 5, torch.randint(0, 5, (7,), generator=generator)


def weighted_loss(output: Tensor, target: Tensor, samples: int) -> Tensor:
    return nn.functional.cross_entropy(output, target, reduction="sum") / samples


@pytest.fixture(scope="module")
def reference() -> tuple[dict[str, Tensor], Tensor]:
    """One process on the whole batch, with torch's own layers."""
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    for step in range(STEPS):
        inputs, target = make_batch(step)
        optimizer.zero_grad()
        weighted_loss(model(inputs), target, len(inputs)).backward()
        optimizer.step()
    model.eval()
    return model.state_dict(), model(make_batch(99)[0]).detach()


@pytest.mark.parallel
@pytest.mark.parametrize("engine", ["horovod", "torch"])
@pytest.mark.parametrize("split", ["1,6", "2,4,1", "4,0,3"])
def test_ranks_arrive_where_one_process_arrives(
    engine: str, split: str, tmp_path: Path, reference: tuple[dict[str, Tensor], Tensor]
) -> None:
    ended = run_ranks(split.count(",") + 1, PROGRAM, engine, split, str(tmp_path))
    assert ended.code == 0, ended.output
    expected_state, expected_output = reference
    for rank in range(split.count(",") + 1):
        state, output = torch.load(tmp_path / f"{rank}.pt")
        assert list(state) == list(expected_state)
        for name, value in state.items():
            torch.testing.assert_close(
                value, expected_state[name], rtol=1e-9, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}"
            )
        if rank == 0:  # without running statistics an evaluation normalises its own batch, the same on all ranks here
            torch.testing.assert_close(output, expected_output, rtol=1e-9, atol=1e-9)


class Twins(SingleEngine):
    """Two ranks that always have the same values."""

    world_size = 2

    def reduce_async(self, tensor: Tensor, op: str, name: str) -> object:  # type: ignore[override]
        tensor.mul_(2)
        return super().reduce_async(tensor, "sum", name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("channels_last", [False, True])
def test_gradients_of_twins_are_those_of_torch(dtype: torch.dtype, channels_last: bool) -> None:
    """Two ranks with the same samples normalise as one of them would, in every type and memory format."""
    torch.manual_seed(0)
    x = (torch.randn(6, 4, 5, 5) * 3 + 7).to(dtype)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    plain = nn.BatchNorm2d(4)
    nn.init.uniform_(plain.weight)
    layer = convert(nn.BatchNorm2d(4), Twins())
    layer.load_state_dict(plain.state_dict())
    weight = torch.randn(6, 4, 5, 5).to(dtype)
    results = []
    for module in (plain, layer):
        given = x.clone().requires_grad_()
        (module(given) * weight).sum().backward()
        output = module(given)
        assert output.dtype == dtype
        results.append([output, given.grad, module.weight.grad, module.bias.grad])
    tolerance = 2e-5 if dtype == torch.float32 else 0.06
    for ours, theirs in zip(results[1], results[0], strict=True):
        # The twin's samples counted too: its pull on the shared statistics doubles nothing, sum over 2, count over 2.
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


def test_float32_keeps_a_small_variance_far_from_zero() -> None:
    torch.manual_seed(0)
    x = torch.randn(4000, 2) * 0.01 + 1000
    layer = convert(nn.BatchNorm1d(2), Twins())
    expected = torch.nn.functional.batch_norm(x.double(), None, None, training=True)
    spread = layer(x).std(dim=0, correction=0)
    torch.testing.assert_close(spread.double(), expected.std(dim=0, correction=0), rtol=0.01, atol=0)


def test_names_and_parameters_stay_and_one_rank_changes_nothing() -> None:
    model = make_model()
    before = {name: id(p) for name, p in model.named_parameters()}
    assert convert(model, SingleEngine()) is model
    assert together_of(model) is None
    converted = convert(model, Twins())
    assert together_of(converted) is not None
    assert {name: id(p) for name, p in converted.named_parameters()} == before
    assert list(converted.state_dict()) == list(make_model().state_dict())
    layers = [module for module in converted.modules() if isinstance(module, SyncBatchNorm)]
    assert len(layers) == 4  # the shared one once
    assert converted[1] is converted[4]


def test_a_model_without_batchnorm_stays() -> None:
    model = nn.Linear(3, 3)
    assert convert(model, Twins()) is model
    assert together_of(model) is None


def test_a_wrong_dimension_is_still_refused() -> None:
    layer = convert(nn.BatchNorm1d(3), Twins())
    with pytest.raises(ValueError, match="expected 2D or 3D input"):
        layer(torch.zeros(1, 3, 4, 4))


def test_a_model_that_normalises_over_ranks_can_be_averaged() -> None:
    """AveragedModel copies it; the ranks, and their engine, are not copied."""
    model = nn.Sequential(nn.BatchNorm1d(2))
    engine = SingleEngine()
    engine.world_size = 2  # type: ignore[misc]
    engine.group = threading.Lock()  # type: ignore[attr-defined]  # as of what an engine holds: no copy of it exists
    model = convert(model, engine)
    averaged = torch.optim.swa_utils.AveragedModel(model)
    assert together_of(averaged) is together_of(model)
