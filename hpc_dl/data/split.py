# SPDX-License-Identifier: Apache-2.0
"""Which samples are held back for evaluation, the same ones every time, and a source that has only some samples."""

from __future__ import annotations

import numpy as np

from hpc_dl.data.base import Data, Source
from hpc_dl.data.batch import Batch
from hpc_dl.data.sharding import Indices
from hpc_dl.errors import HpcDlError


def held_back_numbers(
    samples: int, fraction: float, seed: int, classes: np.ndarray | None = None
) -> tuple[Indices, Indices]:
    """Sample numbers for training and for evaluation, ascending.

    Args:
        samples: How many there are.
        fraction: How much of them is held back, between 0 and 1.
        seed: Which ones.
        classes: The class of each sample, to hold back the same fraction of every class.

    Raises:
        HpcDlError: The fraction is out of range, or leaves one of the two parts empty.
    """
    if not 0 < fraction < 1:
        raise HpcDlError(f"held_back = {fraction}", "out of range", "give a fraction between 0 and 1")
    order = np.random.default_rng(seed).permutation(samples)
    groups = [order] if classes is None else [order[classes[order] == label] for label in np.unique(classes)]
    cuts = [round(len(group) * fraction) for group in groups]
    train = np.concatenate([group[cut:] for group, cut in zip(groups, cuts, strict=True)])
    evaluation = np.concatenate([group[:cut] for group, cut in zip(groups, cuts, strict=True)])
    if not len(train) or not len(evaluation):
        raise HpcDlError(
            f"held_back = {fraction} of {samples} samples", "one part would be empty", "give more samples, or name both"
        )
    return np.sort(train), np.sort(evaluation)


class Subset:
    """Some samples of a source.

    Args:
        source: Has all samples.
        numbers: Which of them, in which order.
    """

    def __init__(self, source: Source, numbers: Indices) -> None:
        self._source, self._numbers = source, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def batch(self, indices: Indices) -> Batch:
        return self._source.batch(self._numbers[indices])


def split(source: Source, held_back: float, seed: int) -> Data:
    """A part of the samples for training, the rest for evaluation."""
    train, evaluation = held_back_numbers(len(source), held_back, seed)
    return Data(Subset(source, train), Subset(source, evaluation))
