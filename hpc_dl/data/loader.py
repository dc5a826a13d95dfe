# SPDX-License-Identifier: Apache-2.0
"""Batches for a loop of one's own: any torch data set, by number or as a stream, each rank its share, on the device."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate, get_worker_info

from hpc_dl.data.batch import Batch
from hpc_dl.data.sharding import Plan, share
from hpc_dl.data.workers import Loader, MapStyle
from hpc_dl.errors import HpcDlError
from hpc_dl.signals import outlive_sigterm, withheld

Collate = Callable[[list[Any]], Batch]
Place = Callable[[Batch], Batch]
Together = Callable[[Iterable[Any]], Iterator[Any]]


class Batches(ABC):
    """The batches of this rank, an epoch for each iteration. `samples` and `global_samples` tell of the latest how many
    samples this rank and all ranks have in it."""

    samples = 0
    global_samples = 0
    epoch = 0
    """The number of the next iteration; a run that is resumed sets it."""

    def set_epoch(self, epoch: int) -> None:
        """Which epoch the next iteration is of, as torch's samplers have it."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Batch]:
        self.epoch += 1
        return self.read(self.epoch - 1)

    @abstractmethod
    def read(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from a step on."""


class Numbered(Batches):
    """Of a data set with samples by number: each exactly once in an epoch, in a new order every epoch.

    Args:
        dataset: With a length and samples by number.
        plan: Which samples are this rank's.
        collate: Makes a batch of a list of samples.
        workers: Loader processes of this rank.
        place: Moves a batch to the device.

    Raises:
        HpcDlError: In the last batch of an epoch some rank would have no sample.
    """

    def __init__(self, dataset: Dataset[Any], plan: Plan, collate: Collate, workers: int, place: Place) -> None:
        rest = 0 if plan.drop_last else plan.samples % plan.step_samples
        if 0 < rest < plan.world_size:
            raise HpcDlError(
                f"{plan.samples} samples in global batches of {plan.step_samples} on {plan.world_size} ranks",
                f"the last batch has {rest}, and every rank needs one for its backward pass",
                "give drop_last=True, or another global batch",
            )
        self._loader, self._plan, self._place = Loader(MapStyle(dataset, collate), plan, workers, True), plan, place

    def __len__(self) -> int:
        return self._plan.steps_per_epoch

    def read(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        for (part,), samples in self._loader.epoch(epoch, first_step):
            self.samples, self.global_samples = part.samples, samples
            yield self._place(part.batch)


class Streamed(Batches):
    """Of a stream: its samples are dealt out to ranks and loader processes in turn, and an epoch ends for all ranks
    when one has no full batch left. So a sample is used at most once in an epoch.

    Args:
        dataset: Iterated anew in every epoch, and by every loader process of every rank; where that costs, give it a
            method `shard(number, count)` that returns the part of one of them.
        global_batch: Samples of a step over all ranks.
        rank, world_size: Who this is.
        collate: Makes a batch of a list of samples.
        workers: Loader processes of this rank.
        place: Moves a batch to the device.
        together: Ends an iteration on all ranks when that of one ends.
    """

    def __init__(
        self,
        dataset: IterableDataset[Any],
        global_batch: int,
        rank: int,
        world_size: int,
        collate: Collate,
        workers: int,
        place: Place,
        together: Together,
    ) -> None:
        first, last = share(global_batch, world_size, rank)
        self.samples, self.global_samples = last - first, global_batch
        self._place, self._together, self._rank = place, together, rank
        self._loader = DataLoader(
            _Dealt(dataset, rank, world_size),
            batch_size=last - first,
            drop_last=True,
            collate_fn=collate,
            num_workers=workers,
            multiprocessing_context="forkserver" if workers else None,
            worker_init_fn=outlive_sigterm if workers else None,
        )

    def read(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """A stream cannot skip: batches before the first step are read and dropped."""
        steps = 0
        with withheld():
            own = iter(self._loader)
        for batch in self._together(own):
            steps += 1
            if steps > first_step:
                yield self._place(batch)
        if self._rank == 0:
            used = steps * self.global_samples
            print(f"hpc-dl: epoch {epoch} of a stream: {used} samples, each at most once", flush=True)


class _Dealt(IterableDataset[Any]):
    """Every so many-th sample of a stream, for this rank and loader process."""

    def __init__(self, dataset: IterableDataset[Any], rank: int, world_size: int) -> None:
        self._dataset, self._rank, self._world_size = dataset, rank, world_size

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        workers, mine = (worker.num_workers, worker.id) if worker else (1, 0)
        number, count = self._rank * workers + mine, self._world_size * workers
        if hasattr(self._dataset, "shard"):
            return iter(self._dataset.shard(number, count))
        return itertools.islice(self._dataset, number, None, count)


def make_batches(
    dataset: Dataset[Any],
    global_batch: int,
    rank: int,
    world_size: int,
    place: Place,
    together: Together,
    collate: Collate | None = None,
    workers: int = 0,
    shuffle: bool = True,
    seed: int = 0,
    drop_last: bool = False,
) -> Batches:
    """The batches of a data set of either kind; see `Session.loader`."""
    if global_batch < world_size:
        raise HpcDlError(
            f"global_batch = {global_batch}",
            f"{world_size} ranks, so some would have nothing to do",
            "give at least one sample per rank, or start fewer ranks",
        )
    if isinstance(dataset, IterableDataset):
        return Streamed(dataset, global_batch, rank, world_size, collate or default_collate, workers, place, together)
    plan = Plan(
        samples=len(dataset),  # type: ignore[arg-type]
        world_size=world_size,
        rank=rank,
        global_batch=global_batch,
        seed=seed,
        shuffle=shuffle,
        drop_last=drop_last,
    )
    return Numbered(dataset, plan, collate or default_collate, workers, place)


def begin(batches: Iterable[Any] | Callable[[int], Iterable[Any]], epoch: int, first: int) -> tuple[Iterator[Any], int]:
    """The batches of an epoch, and how many of them are before number `first` and to be dropped.

    `Batches`, and a function of the first number, begin there; others are told the epoch where they have a method
    `set_epoch`.
    """
    if isinstance(batches, Batches):
        return batches.read(epoch, first), 0
    if callable(batches):
        return iter(batches(first)), 0
    if hasattr(batches, "set_epoch"):
        batches.set_epoch(epoch)
    return iter(batches), first
