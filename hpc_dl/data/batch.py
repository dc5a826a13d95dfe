# SPDX-License-Identifier: Apache-2.0
"""A batch is any tree of tensors: lists, tuples, dictionaries, dataclasses, and objects with a method `to`."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hpc_dl.settings import DeviceSettings

Batch = Any


def map_tensors(
    function: Callable[[Tensor], Any], batch: Batch, other: Callable[[Any], Any] = lambda leaf: leaf
) -> Any:
    """The same tree with `function(tensor)` in place of every tensor.

    Args:
        function: Of a tensor.
        batch: A tree; an object with a method `to` is a leaf, whatever it is made of.
        other: Of a leaf that is no tensor.
    """

    def mapped(part: Any) -> Any:
        return map_tensors(function, part, other)

    if isinstance(batch, Tensor):
        return function(batch)
    if hasattr(batch, "to"):  # the batches of graph libraries, PackedSequence, BatchEncoding
        return other(batch)
    if isinstance(batch, Mapping):
        changed: Any = copy.copy(batch)
        for key, value in batch.items():
            changed[key] = mapped(value)
        return changed
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*map(mapped, batch))
    if isinstance(batch, list | tuple):
        return type(batch)(map(mapped, batch))
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        copied: Any = copy.copy(batch)
        for field in dataclasses.fields(batch):
            object.__setattr__(copied, field.name, mapped(getattr(batch, field.name)))  # it may be frozen
        return copied
    return other(batch)


def leaves(batch: Batch) -> list[Any]:
    """The leaves of a tree, from left to right."""
    found: list[Any] = []
    map_tensors(found.append, batch, found.append)
    return found


def describe(value: Any) -> str:
    """Types and shapes of a tree.

    >>> describe({"words": torch.zeros(2, 5), "length": [torch.tensor(3), "x"]})
    '{words: float32 (2, 5), length: [int64 (), str]}'
    """
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {describe(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list | tuple) and value:
        return "[" + ", ".join(map(describe, value)) + "]"
    return type(value).__name__


@dataclass(frozen=True)
class Placement:
    """Moves batches to where the model is, in the form it wants.

    An object with a method `to` moves itself, and its numbers keep their type.
    """

    device: torch.device
    dtype: torch.dtype | None = None
    """Of floating-point numbers; None leaves them as they are."""
    channels_last: bool = False
    """The memory format of tensors of four dimensions."""

    @classmethod
    def of(cls, device: torch.device, settings: DeviceSettings) -> Placement:
        """That of a run."""
        return cls(device, torch.float64 if settings.precision == "fp64" else None, settings.channels_last)

    def __call__(self, batch: Batch) -> Batch:
        """The batch, placed; on a CPU a tensor that needs no change is not copied."""
        return map_tensors(self._place, batch, self._place_other)

    def _place(self, tensor: Tensor) -> Tensor:
        placed = tensor.to(self.device, self.dtype if tensor.is_floating_point() else None, non_blocking=True)
        if self.channels_last and placed.dim() == 4:
            placed = placed.contiguous(memory_format=torch.channels_last)
        return placed

    def _place_other(self, leaf: Any) -> Any:
        if hasattr(leaf, "to"):
            return leaf.to(self.device)
        return self._place(torch.from_numpy(leaf)) if isinstance(leaf, np.ndarray) else leaf
