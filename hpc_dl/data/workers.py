# SPDX-License-Identifier: Apache-2.0
"""Batches read ahead by loader processes, for samples that are not in memory; the adapter for torch's datasets."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from hpc_dl.data.base import Batch, Source
from hpc_dl.data.seeds import batch_seed, seed_all
from hpc_dl.data.sharding import Indices, Plan
from hpc_dl.errors import HpcDlError
from hpc_dl.signals import outlive_sigterm, withheld


class MapStyle:
    """Any map-style `torch.utils.data.Dataset` whose samples are pairs (input, target).

    Args:
        dataset: Read sample by sample, so give it loader processes where reading takes long.
        collate: Makes one pair of tensors of a list of samples.
    """

    def __init__(self, dataset: Dataset[Any], collate: Callable[[list[Any]], Any] = default_collate) -> None:
        if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
            raise HpcDlError(
                f"data set {type(dataset).__name__}",
                "it has no length or no samples by number: a stream",
                "write the loop yourself, with session.until_any_ends(batches) around a DataLoader (docs/train.md)",
            )
        self._dataset, self._collate = dataset, collate

    def __len__(self) -> int:
        return len(self._dataset)

    def batch(self, indices: Indices) -> Batch:
        # A rank without a sample in this step still needs tensors of the right shape and type: cut them from sample 0.
        samples = [self._dataset[int(index)] for index in indices] or [self._dataset[0]]
        pair = self._collate(samples)
        if not (isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(part, Tensor) for part in pair)):
            raise HpcDlError(
                f"data set {type(self._dataset).__name__}",
                f"its samples make {type(pair).__name__}, not a pair of tensors",
                "let the data set return (input, target), or give a collate function that does",
            )
        inputs, target = pair
        return inputs[: len(indices)], target[: len(indices)]


class Loader:
    """The batches of one rank, epoch by epoch; loader processes live as long as the loader.

    Args:
        source: Where the samples come from; pickled to the loader processes where there are any.
        plan: Which samples are this rank's.
        workers: Loader processes of this rank; 0 reads in this process. No more are started than it may use cores.
        reseed: Seed this process's generators before every batch, as loader processes do theirs: random numbers of a
            batch then do not depend on the number of workers, nor on what was read before.
    """

    def __init__(self, source: Source, plan: Plan, workers: int = 0, reseed: bool = False) -> None:
        self._source, self._plan, self._reseed = source, plan, reseed
        self._steps = _Steps(plan)
        self._processes = None
        workers = _within_affinity(workers)
        if workers:
            # Not fork: a child of a process that has started MPI or a GPU inherits registered memory and locks that
            # it must not touch (Perlmutter's network memory is registered at start-up, docs.nersc.gov, 2026).
            self._processes = DataLoader(
                _Indexed(source),
                batch_size=None,  # `_Steps` hands out whole batches
                sampler=self._steps,
                num_workers=workers,
                persistent_workers=True,
                multiprocessing_context="forkserver",
                worker_init_fn=outlive_sigterm,
            )

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[tuple[Tensor, Tensor, int]]:
        """Inputs, target and the global number of samples of each step of an epoch, from `first_step` on."""
        steps = range(first_step, self._plan.steps_per_epoch)
        if self._processes is None:
            for step in steps:
                if self._reseed:
                    seed_all(batch_seed(self._plan.seed, self._plan.rank, epoch, step))
                indices, global_size = self._plan.batch(epoch, step)
                yield *self._source.batch(indices), global_size
            return
        self._steps.epoch, self._steps.steps = epoch, steps
        with withheld():  # the first time this starts them
            batches = iter(self._processes)
        for step, (inputs, target) in zip(steps, batches, strict=True):
            yield inputs, target, self._plan.batch(epoch, step)[1]


def batches(
    source: Source, plan: Plan, epoch: int, first_step: int = 0, workers: int = 0
) -> Iterator[tuple[Tensor, Tensor, int]]:
    """The batches of one rank in one epoch.

    Args:
        source: Where the samples come from.
        plan: Which samples are this rank's.
        epoch: Number of the pass over the data, from 0.
        first_step: Step of the epoch to begin with, for a run that is resumed.
        workers: Loader processes; 0 reads in this process. To keep them from epoch to epoch, use `Loader`.

    Yields:
        Inputs, target, and the number of samples of all ranks in this step. The tensors have length 0 where this rank
        has no sample in the step, so that all ranks take the same number of steps.
    """
    yield from Loader(source, plan, workers).epoch(epoch, first_step)


Order = tuple[Indices, int]


class _Steps(Sampler[Order]):
    """The indices and seeds of this rank, step by step, of whichever epoch is set."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.epoch, self.steps = 0, range(0)

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[Order]:
        plan, epoch = self._plan, self.epoch
        for step in self.steps:
            yield plan.batch(epoch, step)[0], batch_seed(plan.seed, plan.rank, epoch, step)


class _Indexed(Dataset[Batch]):
    """A source as torch's loader wants it: the "index" is the array of a whole batch, and the seed to draw it with."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def __getitem__(self, order: Order) -> Batch:
        indices, seed = order
        seed_all(seed)  # whichever process reads it, and whatever it has read before
        return self._source.batch(indices)

    def __len__(self) -> int:
        return len(self._source)


def _within_affinity(workers: int) -> int:
    """As many loader processes as asked for, but not more than there are cores this rank may run on."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if workers > cores:
        warnings.warn(f"data.workers = {workers}: this rank may use {cores} cores; starting {cores}", stacklevel=3)
    return min(workers, cores)
