# SPDX-License-Identifier: Apache-2.0
"""Which samples are mine? Pure index arithmetic from (seed, epoch, step, rank, world size) to sample numbers.

The global batch of a step is a slice of the epoch's order, and each rank takes a contiguous part of that slice. So W
ranks with a local batch of G / W see exactly what one process with a batch of G sees, and nobody needs to communicate.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpc_dl.errors import HpcDlError

Indices = NDArray[np.int64]


def share(count: int, world_size: int, rank: int) -> tuple[int, int]:
    """Start and stop of one rank's part of `count` things: as even as possible, the first ranks take what is over.

    >>> [share(10, 4, rank) for rank in range(4)]
    [(0, 3), (3, 6), (6, 8), (8, 10)]
    """
    each, over = divmod(count, world_size)
    start = rank * each + min(rank, over)
    return start, start + each + (rank < over)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The samples of one rank in every step of every epoch.

    Every sample is used exactly once in an epoch, unless `drop_last` leaves out the incomplete last batch. The last
    batch is split as evenly as the others, so a rank may get one sample fewer than another, or none. Where a rank
    cannot do with a single sample, the last batch goes to fewer ranks.
    """

    samples: int
    """Samples of the whole data set."""
    world_size: int = 1
    rank: int = 0
    local_batch: int | None = None
    """Samples per rank and step; not used where `global_batch` is given."""
    global_batch: int | None = None
    """Samples per step over all ranks."""
    seed: int = 0
    """The same on all ranks; with the epoch's number it fixes the order."""
    shuffle: bool = True
    """False: samples in the order they are stored, in every epoch."""
    drop_last: bool = False
    """Leave out the last batch of an epoch where it is smaller than the others."""
    least_samples: int = 1
    """What a rank needs to take part in a step: 2 where a layer normalises over the rank's own samples."""

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world_size:
            raise HpcDlError(
                f"rank {self.rank} of {self.world_size}", "no such rank", "give a rank below the world size"
            )
        if self.samples <= 0:
            raise HpcDlError("a pass over the data", f"{self.samples} samples", "give a data set with samples in it")
        if self.local_batch is None and self.global_batch is None:
            raise HpcDlError("a pass over the data", "no batch size", "give local_batch or global_batch")
        if self.seed < 0:
            raise HpcDlError(f"seed = {self.seed}", "out of range", "give a seed of 0 or more")
        if self.step_samples <= 0:
            raise HpcDlError(
                f"a global batch of {self.step_samples}", "out of range", "give at least 1 sample per step"
            )
        if self.global_batch is not None and self.global_batch < self.world_size:
            raise HpcDlError(
                f"global_batch = {self.global_batch}",
                f"{self.world_size} ranks, so some would have nothing to do in every step",
                "give a global batch of at least one sample per rank, or start fewer ranks",
            )
        if self.steps_per_epoch == 0:
            raise HpcDlError(
                f"a global batch of {self.step_samples}",
                f"only {self.samples} samples, and drop_last leaves out the one incomplete batch",
                "give a smaller batch, start fewer ranks, or set drop_last to false",
            )
        self._refuse_single_samples()

    def _refuse_single_samples(self) -> None:
        rest = 0 if self.drop_last else self.samples % self.step_samples
        if self.step_samples // self.world_size < self.least_samples:
            raise HpcDlError(
                f"a global batch of {self.step_samples} on {self.world_size} ranks",
                "some get 1 sample, and the model needs 2 to train on, as batch normalisation does",
                "give at least 2 samples per rank, start fewer ranks, or normalise over all ranks "
                "(device.sync_batchnorm)",
            )
        if 0 < rest < self.least_samples:
            raise HpcDlError(
                f"{self.samples} samples in global batches of {self.step_samples}",
                "the last one has 1 sample, and the model needs 2 to train on, as batch normalisation does",
                "leave it out (training.drop_last), or change the batch",
            )

    @property
    def step_samples(self) -> int:
        """Samples of a complete step over all ranks: the global batch."""
        if self.global_batch is not None:
            return self.global_batch
        return (self.local_batch or 0) * self.world_size

    @property
    def steps_per_epoch(self) -> int:
        whole, rest = divmod(self.samples, self.step_samples)
        return whole if self.drop_last else whole + (rest > 0)

    def batch(self, epoch: int, step: int) -> tuple[Indices, int]:
        """One rank's samples in a step.

        Args:
            epoch: Number of the pass over the data, from 0.
            step: Number of the step within the epoch, from 0.

        Returns:
            Sample numbers of this rank (int64, possibly none), and how many samples all ranks have together.
        """
        if not 0 <= step < self.steps_per_epoch:
            raise IndexError(f"step {step} of an epoch of {self.steps_per_epoch} steps")
        first = step * self.step_samples
        count = min(self.step_samples, self.samples - first)
        takers = max(1, min(self.world_size, count // self.least_samples))
        start, stop = share(count, takers, self.rank) if self.rank < takers else (count, count)
        if not self.shuffle:
            return np.arange(first + start, first + stop, dtype=np.int64), count
        order = _order(self.samples, self.seed, epoch)
        return order[first + start : first + stop].astype(np.int64), count


def evaluation_plan(samples: int, world_size: int, rank: int, local_batch: int) -> Plan:
    """Every sample once, in the order they are stored, the same number of steps on all ranks."""
    return Plan(samples=samples, world_size=world_size, rank=rank, local_batch=local_batch, shuffle=False)


@functools.lru_cache(maxsize=1)
def _order(samples: int, seed: int, epoch: int) -> NDArray[np.integer]:
    """The epoch's order, kept while the epoch lasts; 4 bytes a sample where that is enough."""
    numbers = np.arange(samples, dtype=np.uint32 if samples < 2**32 else np.int64)
    np.random.Generator(np.random.PCG64([seed, epoch])).shuffle(numbers)
    numbers.flags.writeable = False
    return numbers
