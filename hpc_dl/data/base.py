# SPDX-License-Identifier: Apache-2.0
"""What a source of samples is, the in-memory source, and the batches of one rank in the order of a plan.

A source has a length and `batch(indices)`, which returns the inputs and the target of those samples as two tensors.
It knows nothing of ranks: `sharding.Plan` says which indices a rank asks for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from hpc_dl.data.sharding import Indices
from hpc_dl.errors import HpcDlError

Batch = tuple[Tensor, Tensor]


class Source(Protocol):
    """Samples by number."""

    def __len__(self) -> int: ...

    def batch(self, indices: Indices) -> Batch:
        """Inputs and target of these samples, stacked along the first axis; no indices give tensors of length 0."""
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

    def batch(self, indices: Indices) -> Batch:
        chosen = torch.from_numpy(np.asarray(indices, dtype=np.int64))
        inputs = self._inputs.index_select(0, chosen)
        return self._transform(inputs) if self._transform else inputs, self._target.index_select(0, chosen)
