# SPDX-License-Identifier: Apache-2.0
"""What ranks compare before they train, on ranks that are threads: who differs, and in what."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hpc_dl.comm import compare
from hpc_dl.comm.base import Done, Op, Work
from hpc_dl.comm.single import SingleEngine
from hpc_dl.data.base import Arrays, Data
from hpc_dl.errors import HpcDlError
from hpc_dl.settings import DataSettings, ExchangeSettings, LogSettings, Settings, TrainingSettings


class World:
    """Where threads meet."""

    def __init__(self, size: int) -> None:
        self.size, self.collectives = size, 0
        self._barrier = threading.Barrier(size, timeout=20)
        self._said: dict[int, Any] = {}

    def meet(self, rank: int, value: Any) -> list[Any]:
        self._said[rank] = value
        if self._barrier.wait() == 0:
            self.collectives += 1
        everything = [self._said[other] for other in range(self.size)]
        self._barrier.wait()
        return everything


class ThreadEngine(SingleEngine):
    def __init__(self, world: World, rank: int) -> None:
        self._world, self.rank, self.world_size = world, rank, world.size

    def reduce_async(self, tensor: Tensor, op: Op, name: str) -> Work:
        assert op == "max"
        tensor.copy_(torch.stack(self._world.meet(self.rank, tensor.clone())).amax(0))
        return Done()

    def gather(self, value: Any) -> list[Any] | None:
        everything = self._world.meet(self.rank, value)
        return everything if self.rank == 0 else None

    def broadcast(self, value: Any, root: int = 0) -> Any:
        return self._world.meet(self.rank, value)[root]


def on_ranks(size: int, action: Callable[[ThreadEngine], None]) -> tuple[list[str], int]:
    """What each rank is told, and how many collectives it took."""
    world = World(size)

    def one(rank: int) -> str:
        try:
            action(ThreadEngine(world, rank))
        except HpcDlError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(one, range(size))), world.collectives


def told(size: int, action: Callable[[ThreadEngine], None]) -> str:
    """The one sentence that all ranks are told."""
    (sentence,) = set(on_ranks(size, action)[0])
    return sentence


def distribute(engine: ThreadEngine, model: nn.Module, *optimized: nn.Parameter) -> None:
    optimizer = torch.optim.SGD(optimized or model.parameters(), 0.1)
    compare.models(engine, model, optimizer, ExchangeSettings())


class Net(nn.Module):
    def __init__(self, order: str = "ab", buffer: bool = True) -> None:
        super().__init__()
        for name in order:
            self.register_module(name, nn.Linear(6, 4))
        if buffer:
            self.register_buffer("scale", torch.ones(3))


def test_equal_models_cost_one_collective() -> None:
    sentences, collectives = on_ranks(3, lambda engine: distribute(engine, Net()))
    assert sentences == [""] * 3
    assert collectives == 1


MODELS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "shapes of equal size": (
        lambda: nn.ModuleDict({"a": nn.Linear(4, 6), "b": nn.Linear(6, 4)}),
        "parameter a.weight is float32 (6, 4) on rank 1, float32 (4, 6) on rank 0",
    ),
    "order": (lambda: Net("ba"), "parameter b.weight comes on rank 1 where parameter a.weight comes on rank 0"),
    "one more": (lambda: Net("abc"), "parameter c.weight is on rank 1 only"),
    "one less": (lambda: Net("a"), "parameter b.weight is missing on rank 1"),
    "no buffer": (lambda: Net(buffer=False), "buffer scale is missing on rank 1"),
    "type": (lambda: Net().double(), "parameter a.weight is float64 (4, 6) on rank 1, float32 (4, 6) on rank 0"),
    "frozen": (lambda: Net().requires_grad_(False), "parameter a.weight is float32 (4, 6), frozen on rank 1"),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_first_difference_of_models_is_named(name: str) -> None:
    other, sentence = MODELS[name]
    assert sentence in told(3, lambda engine: distribute(engine, other() if engine.rank == 1 else Net()))


def test_what_an_optimizer_holds_is_compared() -> None:
    def action(engine: ThreadEngine) -> None:
        model = Net()
        distribute(engine, model, *(model.b if engine.rank == 2 else model.a).parameters())

    assert "parameter 0 of the optimizer is b.weight on rank 2, a.weight on rank 0" in told(3, action)


@pytest.mark.parametrize("odd", [0, 1, 3])
def test_the_majority_is_right_whichever_rank_differs(odd: int) -> None:
    sentence = told(4, lambda engine: distribute(engine, Net("a" if engine.rank == odd else "ab")))
    assert f"is missing on rank {odd}, which rank {int(odd == 0)} has" in sentence


def test_versions_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = {"0": "2.7.0", "1": "2.6.0"}

    def version(engine: ThreadEngine) -> None:
        compare.compare(engine, "the same", {"torch": shown[str(engine.rank)]}, "install the same")

    assert "torch is 2.6.0 on rank 1, 2.7.0 on rank 0" in told(2, version)
    facts: list[Any] = []
    monkeypatch.setattr(compare, "compare", lambda engine, asked, mine, remedy: facts.append(mine))
    compare.models(ThreadEngine(World(2), 0), Net(), torch.optim.SGD(Net().parameters(), 0.1), ExchangeSettings())
    assert facts[0]["torch"] == torch.__version__
    assert "hpc_dl" in facts[0]


def arrays(samples: int = 12, first: float = 0.0) -> Arrays:
    x = torch.arange(4.0 * samples).view(samples, 4)
    x[0, 0] = first
    return Arrays(x, torch.arange(samples))


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (Data(arrays(8), arrays()), "the number of training samples is 8 on rank 1, 12 on rank 0"),
        (Data(arrays(), arrays(11)), "the number of evaluation samples is 11 on rank 1, 12 on rank 0"),
        (Data(arrays(), arrays(first=3.0)), "the content of evaluation samples is float32 (3, 4) with checksum"),
    ],
)
def test_data_are_compared(other: Data, sentence: str) -> None:
    usual = Data(arrays(), arrays())
    assert sentence in told(2, lambda engine: compare.data(engine, other if engine.rank else usual))
    assert told(2, lambda engine: compare.data(engine, usual)) == ""


def test_random_samples_are_no_difference() -> None:
    class Random(Arrays):
        def batch(self, indices: Any) -> tuple[Tensor, Tensor]:
            inputs, target = super().batch(indices)
            return inputs + np.random.default_rng().random(), target

    def action(engine: ThreadEngine) -> None:
        compare.data(engine, Data(Random(torch.ones(5, 2), torch.ones(5)), arrays()))

    assert told(2, action) == ""


def test_rounding_of_another_processor_is_no_difference() -> None:
    def action(engine: ThreadEngine) -> None:
        x = torch.linspace(0.1, 1, 30).view(10, 3) * (1 + 1e-7 * engine.rank)
        compare.data(engine, Data(Arrays(x, x), Arrays(x, x)))

    assert told(2, action) == ""


def test_settings_are_compared_except_what_is_a_ranks_own_business() -> None:
    usual = Settings()
    own = replace(usual, data=DataSettings(workers=3), log=LogSettings(folder="mine", progress="none"))
    other = replace(usual, training=TrainingSettings(clip_norm=2.0))
    assert told(2, lambda engine: compare.settings(engine, own if engine.rank else usual)) == ""
    sentence = told(2, lambda engine: compare.settings(engine, other if engine.rank else usual))
    assert "training.clip_norm is 2.0 on rank 1, None on rank 0" in sentence
