# SPDX-License-Identifier: Apache-2.0
"""The largest batch that fits, on a fake device whose memory is really counted."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from hpc_dl.cluster.rank import RankRecord
from hpc_dl.comm.single import SingleEngine
from hpc_dl.data.base import Arrays
from hpc_dl.data.batch import Placement
from hpc_dl.devices import choose
from hpc_dl.devices.base import Device
from hpc_dl.errors import HpcDlError
from hpc_dl.training.largest_batch import RESOLUTION, largest_batch, largest_local_batch
from hpc_dl.training.objective import PairObjective

sys.path.insert(0, str(Path(__file__).parent.parent / "devices"))
from fake_torch import FakeSpace, make

RANK = RankRecord(0, 1, 0, 1, 0, "test")


class OtherRankToo(SingleEngine):
    """Two ranks; the other one fits `other` samples."""

    world_size = 2

    def __init__(self, other: int) -> None:
        self._other = other
        self.tried = 0

    def reduce(self, tensor: Tensor, op: str, name: str = "") -> Tensor:  # type: ignore[override]
        return torch.minimum(tensor, torch.tensor([float(self.tried <= self._other)]))


def accelerator(kind: str, memory_bytes: int) -> tuple[Device, FakeSpace]:
    stand_in = make(kind, {}, gpus=1, memory_bytes=memory_bytes)
    device = choose(kind, RANK, int, {}, torch=stand_in)
    device.make_current()
    return device, getattr(stand_in, kind)


@pytest.mark.parametrize("kind", ["cuda", "xpu"])
@pytest.mark.parametrize("capacity", [1, 2, 3, 7, 8, 100, 1000, 1023])
def test_it_fits_and_a_little_more_does_not(kind: str, capacity: int) -> None:
    device, space = accelerator(kind, memory_bytes=1000 * capacity + 999)

    def attempt(batch: int) -> None:
        try:
            for _ in range(batch):
                space.allocate(1000)
        finally:
            space.free()

    found = largest_batch(attempt, device, SingleEngine(), limit=10_000)
    assert found <= capacity < found + max(1, found // RESOLUTION) + 1
    assert device.memory_used_bytes() == 0


@pytest.mark.parametrize("limit", [1, 5, 64, 100])
def test_no_more_than_the_limit_is_tried(limit: int) -> None:
    device, _ = accelerator("cuda", memory_bytes=10)
    tried: list[int] = []
    assert largest_batch(tried.append, device, SingleEngine(), limit) == limit
    assert max(tried) == limit


@pytest.mark.parametrize("other", [5, 2000])
def test_all_ranks_take_what_the_smallest_can(other: int) -> None:
    device, space = accelerator("cuda", memory_bytes=100_000)
    engine = OtherRankToo(other)

    def attempt(batch: int) -> None:
        engine.tried = batch
        space.allocate(1000 * batch)
        space.free()

    found = largest_batch(attempt, device, engine, limit=10_000)
    smallest = min(100, other)
    assert found <= smallest <= found + max(1, found // RESOLUTION)


def test_nothing_fits() -> None:
    device, space = accelerator("xpu", memory_bytes=10)
    with pytest.raises(HpcDlError, match="not even one sample"):
        largest_batch(lambda batch: space.allocate(11), device, SingleEngine(), limit=8)


def test_another_error_is_not_taken_for_full_memory() -> None:
    def attempt(batch: int) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    device, _ = accelerator("cuda", memory_bytes=10)
    with pytest.raises(RuntimeError, match="mat1"):
        largest_batch(attempt, device, SingleEngine(), limit=8)


class Counted(nn.Module):
    """A model whose activations take memory of the fake device."""

    def __init__(self, space: FakeSpace) -> None:
        super().__init__()
        self.layer, self.norm, self._space = nn.Linear(4, 2), nn.BatchNorm1d(4), space

    def forward(self, x: Tensor) -> Tensor:
        self._space.free()
        self._space.allocate(1000 * len(x))
        return self.layer(self.norm(x))


def test_a_training_step_is_tried_and_leaves_no_trace() -> None:
    device, space = accelerator("cuda", memory_bytes=40_500)
    device.torch_device = torch.device("cpu")  # the numbers are computed here, the memory is counted there
    torch.manual_seed(0)
    model = Counted(space)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    source = Arrays(torch.randn(300, 4), torch.zeros(300, dtype=torch.long))
    found = largest_local_batch(
        model,
        lambda: torch.optim.Adam(model.parameters(), 0.1),
        PairObjective(nn.functional.cross_entropy),
        source,
        device,
        SingleEngine(),
        Placement(device.torch_device),
    )
    assert found <= 40 <= found + found // RESOLUTION
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_a_cpu_is_refused() -> None:
    cpu = choose("cpu", RANK, int, {})
    model = nn.Linear(1, 1)
    with pytest.raises(HpcDlError, match="killed process") as caught:
        largest_local_batch(
            model,
            lambda: torch.optim.SGD(model.parameters(), 0.1),
            PairObjective(nn.functional.mse_loss),
            Arrays(torch.ones(2, 1), torch.ones(2, 1)),
            cpu,
            SingleEngine(),
            Placement(cpu.torch_device),
        )
    assert "training.local_batch" in caught.value.remedy
