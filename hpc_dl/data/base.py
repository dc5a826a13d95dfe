# SPDX-License-Identifier: Apache-2.0
"""What a source of samples is, and the in-memory sources.

A source has a length and `batch(indices)`, which returns those samples: inputs and target as a pair of tensors, or any
other tree of tensors (`batch.py`). It knows nothing of ranks: `sharding.Plan` says which indices a rank asks for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from hpc_dl.data.batch import Batch, leaves, map_tensors
from hpc_dl.data.sharding import Indices
from hpc_dl.errors import HpcDlError

Pair = tuple[Tensor, Tensor]
"""Inputs and target."""


class Source(Protocol):
    """Samples by number."""

    def __len__(self) -> int: ...

    def batch(self, indices: Indices) -> Batch:
        """These samples, stacked along the first axis of every tensor; no indices give tensors of length 0."""
        ...


@dataclass(frozen=True)
class Data:
    """What a run trains on and what it is judged by."""

    train: Source
    evaluation: Source


class Arrays:
    """Samples that are in memory: a batch is one indexing per array, with no Python per sample.

    Args:
        inputs: Samples along the first axis.
        target: What the model should answer, along the first axis.
        transform: Applied to the inputs of every batch, so that the arrays may stay small (bytes instead of floats).

    Raises:
        HpcDlError: inputs and target differ in length.
    """

    def __init__(
        self,
        inputs: Tensor | np.ndarray,
        target: Tensor | np.ndarray,
        transform: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        if len(inputs) != len(target):
            raise HpcDlError(
                "samples in memory", f"{len(inputs)} inputs and {len(target)} targets", "give one target per input"
            )
        self._inputs, self._target = torch.as_tensor(inputs), torch.as_tensor(target)
        self._transform = transform

    def __len__(self) -> int:
        return len(self._inputs)

    def batch(self, indices: Indices) -> Pair:
        chosen = torch.from_numpy(np.asarray(indices, dtype=np.int64))
        inputs = self._inputs.index_select(0, chosen)
        return self._transform(inputs) if self._transform else inputs, self._target.index_select(0, chosen)


class InMemory:
    """Samples that are in memory as any tree of arrays: dictionaries, more than one input.

    Args:
        samples: Arrays of one length, samples along their first axes.

    Raises:
        HpcDlError: There is no array, or they differ in length.
    """

    def __init__(self, samples: Batch) -> None:
        self._samples = map_tensors(Tensor.contiguous, samples, torch.as_tensor)
        lengths = {len(part) for part in leaves(self._samples)}
        if len(lengths) != 1:
            found = f"arrays of {', '.join(map(str, sorted(lengths)))} samples" if lengths else "no array"
            raise HpcDlError("samples in memory", found, "give arrays of one length, samples along the first axis")
        (self._length,) = lengths

    def __len__(self) -> int:
        return self._length

    def batch(self, indices: Indices) -> Batch:
        chosen = torch.from_numpy(np.asarray(indices, dtype=np.int64))
        return map_tensors(lambda part: part.index_select(0, chosen), self._samples)
