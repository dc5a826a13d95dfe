# SPDX-License-Identifier: Apache-2.0
"""Sources give whole batches, loader processes give the same ones, and empty parts keep their shape."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from hpc_dl.data.base import Arrays, InMemory, Source
from hpc_dl.data.sharding import Plan
from hpc_dl.data.workers import Loader, MapStyle, batches
from hpc_dl.errors import HpcDlError


class Squares(Dataset[tuple[torch.Tensor, int]]):
    """Sample i is ([i, i], i * i)."""

    def __len__(self) -> int:
        return 23

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.full((2,), float(index)), index * index


def arrays() -> Arrays:
    numbers = np.arange(23)
    return Arrays(np.stack([numbers, numbers], 1).astype(np.float32), numbers**2)


def seen(source: Source, plan: Plan, epoch: int, first_step: int = 0, workers: int = 0) -> list[tuple[list, list, int]]:
    return [(x.tolist(), y.tolist(), n) for x, y, n in batches(source, plan, epoch, first_step, workers)]


@pytest.mark.parametrize("source", [arrays(), MapStyle(Squares())])
def test_batches_follow_the_plan(source: Source) -> None:
    plan = Plan(samples=len(source), world_size=2, rank=1, local_batch=4, seed=3)
    got = seen(source, plan, epoch=2)
    assert len(got) == plan.steps_per_epoch
    for step, (inputs, target, global_size) in enumerate(got):
        indices, expected = plan.batch(2, step)
        assert inputs == [[i, i] for i in indices]
        assert target == [i * i for i in indices]
        assert global_size == expected


def test_arrays_and_data_set_give_the_same() -> None:
    plan = Plan(samples=23, local_batch=5)
    assert seen(arrays(), plan, 0) == seen(MapStyle(Squares()), plan, 0)


def test_loader_processes_give_the_same_batches_over_several_epochs() -> None:
    plan = Plan(samples=23, world_size=2, rank=0, local_batch=4)
    with_process, without = Loader(MapStyle(Squares()), plan, workers=1), Loader(MapStyle(Squares()), plan)
    for epoch, first in [(0, 0), (1, 0), (4, 2)]:
        for a, b in zip(with_process.epoch(epoch, first), without.epoch(epoch, first), strict=True):
            ((mine, count),), ((theirs, their_count),) = a[0], b[0]
            assert torch.equal(mine[0], theirs[0])
            assert torch.equal(mine[1], theirs[1])
            assert (count, a[1]) == (their_count, b[1])


def test_an_epoch_left_early_does_not_leak_into_the_next() -> None:
    plan = Plan(samples=23, local_batch=4)
    loader = Loader(MapStyle(Squares()), plan, workers=1)
    next(iter(loader.epoch(0)))
    again = [part.batch[0].tolist() for parts, _ in loader.epoch(1) for part in parts]
    assert again == [x for x, _, _ in seen(MapStyle(Squares()), plan, 1)]


@pytest.mark.parametrize("source", [arrays(), MapStyle(Squares())])
def test_a_rank_without_a_sample_gets_empty_tensors(source: Source) -> None:
    last = list(batches(source, Plan(samples=21, world_size=4, rank=3, local_batch=5, shuffle=False), 0))[-1]
    inputs, target, global_size = last
    assert (tuple(inputs.shape), len(target), global_size) == ((0, 2), 0, 1)
    assert inputs.dtype == torch.float32


def test_resuming_skips_the_steps_already_done() -> None:
    plan = Plan(samples=23, local_batch=4)
    assert seen(arrays(), plan, 1, first_step=3) == seen(arrays(), plan, 1)[3:]


def test_transform_sees_whole_batches() -> None:
    shapes = []

    def halve(inputs: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(inputs.shape))
        return inputs.float() / 2

    source = Arrays(np.arange(12, dtype=np.uint8).reshape(6, 2), np.zeros(6), halve)
    (inputs, _, _), *_ = batches(source, Plan(samples=6, local_batch=4, shuffle=False), 0)
    assert shapes == [(4, 2), (2, 2)]
    assert inputs.dtype == torch.float32


def test_more_loader_processes_than_cores_are_cut_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="this rank may use"):
        Loader(arrays(), Plan(samples=23, local_batch=4), workers=1000)


class Endless(torch.utils.data.IterableDataset[int]):
    def __iter__(self) -> Iterator[int]:
        return itertools.count()


def test_a_stream_is_refused_with_the_way_to_train_on_it() -> None:
    with pytest.raises(HpcDlError, match=r"data set Endless: .*: a stream"):
        MapStyle(Endless())


def test_refusals() -> None:
    with pytest.raises(HpcDlError, match="2 inputs and 3 targets"):
        Arrays(np.zeros(2), np.zeros(3))
    with pytest.raises(HpcDlError, match="arrays of 2, 3 samples"):
        InMemory({"x": np.zeros(2), "y": np.zeros(3)})
    with pytest.raises(HpcDlError, match="no array"):
        InMemory({})
