# SPDX-License-Identifier: Apache-2.0
"""Batches read ahead by loader processes, for samples that are not in memory; the adapter for torch's datasets."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from hpc_dl.data.base import Source
from hpc_dl.data.batch import Batch, map_tensors
from hpc_dl.data.seeds import batch_seed, seed_all
from hpc_dl.data.sharding import Indices, Plan
from hpc_dl.errors import HpcDlError
from hpc_dl.signals import outlive_sigterm, withheld


class MapStyle:
    """Any map-style `torch.utils.data.Dataset`.

    Args:
        dataset: Read sample by sample, so give it loader processes where reading takes long.
        collate: Makes a batch of a list of samples.
    """

    def __init__(self, dataset: Dataset[Any], collate: Callable[[list[Any]], Batch] = default_collate) -> None:
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
        if len(indices):
            return self._collate([self._dataset[int(index)] for index in indices])
        # No samples are tensors of the right shape and type all the same: those of sample 0, cut.
        return map_tensors(lambda part: part[:0] if part.dim() else part, self._collate([self._dataset[0]]))


class Part(NamedTuple):
    """Samples of one rank that go through the model together."""

    batch: Batch
    samples: int


Cut = Callable[[Indices, int], list[Indices]]
"""Cuts a rank's samples of a step into parts; also told how many samples all ranks have."""


def whole(indices: Indices, samples: int) -> list[Indices]:
    """All samples of the rank in one part."""
    return [indices]


class Loader:
    """The batches of one rank, epoch by epoch; loader processes live as long as the loader.

    Args:
        source: Where the samples come from; pickled to the loader processes where there are any.
        plan: Which samples are this rank's.
        workers: Loader processes of this rank; 0 reads in this process. No more are started than it may use cores.
        reseed: Seed this process's generators before every batch, as loader processes do theirs: random numbers of a
            batch then do not depend on the number of workers, nor on what was read before.
        cut: How the samples of a step are cut into parts.
    """

    def __init__(self, source: Source, plan: Plan, workers: int = 0, reseed: bool = False, cut: Cut = whole) -> None:
        self._source, self._plan, self._reseed, self._cut = _InParts(source), plan, reseed, cut
        self._steps = _Steps(plan, cut)
        self._processes = None
        workers = _within_affinity(workers)
        if workers:
            # Not fork: a child of a process that has started MPI or a GPU inherits registered memory and locks that
            # it must not touch (Perlmutter's network memory is registered at start-up, docs.nersc.gov, 2026).
            self._processes = DataLoader(
                self._source,
                batch_size=None,  # `_Steps` hands out whole batches
                sampler=self._steps,
                collate_fn=_as_it_is,
                num_workers=workers,
                persistent_workers=True,
                multiprocessing_context="forkserver",
                worker_init_fn=outlive_sigterm,
            )

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[tuple[list[Part], int]]:
        """This rank's parts, and the number of samples of all ranks, in each step of an epoch from `first_step` on."""
        steps = range(first_step, self._plan.steps_per_epoch)
        for step, batches in zip(steps, self._read(epoch, steps), strict=True):
            indices, samples = self._plan.batch(epoch, step)
            sizes = map(len, self._cut(indices, samples))
            yield [Part(batch, size) for batch, size in zip(batches, sizes, strict=True)], samples

    def _read(self, epoch: int, steps: range) -> Iterator[list[Batch]]:
        self._steps.epoch, self._steps.steps = epoch, steps
        if self._processes is None:
            for parts, seed in self._steps:
                if self._reseed:
                    seed_all(seed)
                yield self._source.read(parts)
            return
        with withheld():  # the first time this starts them
            batches = iter(self._processes)
        yield from batches


def batches(source: Source, plan: Plan, epoch: int, first_step: int = 0, workers: int = 0) -> Iterator[tuple[Any, ...]]:
    """The batches of one rank in one epoch.

    Args:
        source: Where the samples come from.
        plan: Which samples are this rank's.
        epoch: Number of the pass over the data, from 0.
        first_step: Step of the epoch to begin with, for a run that is resumed.
        workers: Loader processes; 0 reads in this process. To keep them from epoch to epoch, use `Loader`.

    Yields:
        Inputs, target, and the number of samples of all ranks in this step; of a source that gives no pairs, the batch
        and that number. Tensors have length 0 where this rank has no sample in the step, so that all ranks take the
        same number of steps.
    """
    for ((batch, _),), samples in Loader(source, plan, workers).epoch(epoch, first_step):
        pair = isinstance(batch, list | tuple) and len(batch) == 2
        yield (*batch, samples) if pair else (batch, samples)


Order = tuple[list[Indices], int]


class _Steps(Sampler[Order]):
    """The indices, in parts, and seeds of this rank, step by step, of whichever epoch is set."""

    def __init__(self, plan: Plan, cut: Cut) -> None:
        self._plan, self._cut = plan, cut
        self.epoch, self.steps = 0, range(0)

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[Order]:
        plan, epoch = self._plan, self.epoch
        for step in self.steps:
            yield self._cut(*plan.batch(epoch, step)), batch_seed(plan.seed, plan.rank, epoch, step)


class _InParts(Dataset[list[Batch]]):
    """A source as torch's loader wants it: the "index" is the arrays of a step's parts, and the seed to draw with."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def read(self, parts: list[Indices]) -> list[Batch]:
        return [self._source.batch(indices) for indices in parts]

    def __getitem__(self, order: Order) -> list[Batch]:
        parts, seed = order
        seed_all(seed)  # whichever process reads it, and whatever it has read before
        return self.read(parts)

    def __len__(self) -> int:
        return len(self._source)


def _as_it_is(batch: Any) -> Any:
    """torch would turn arrays and numbers into tensors, here and not without loader processes."""
    return batch


def _within_affinity(workers: int) -> int:
    """As many loader processes as asked for, but not more than there are cores this rank may run on."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if workers > cores:
        warnings.warn(f"data.workers = {workers}: this rank may use {cores} cores; starting {cores}", stacklevel=3)
    return min(workers, cores)
