# SPDX-License-Identifier: Apache-2.0
"""Arrays whose rows are samples, wherever they lie: shards one after the other, inputs paired with targets.

`npy` and `hdf5` say how to take rows out of one file; everything they share is here, the checks above all: what is
wrong with a file is said when it is opened, before the first step, on every rank.
"""

from __future__ import annotations

import bisect
import glob
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from hpc_dl.data.base import Data, Pair
from hpc_dl.data.sharding import Indices
from hpc_dl.data.split import split
from hpc_dl.errors import HpcDlError


class Rows(Protocol):
    """Rows of one array."""

    @property
    def name(self) -> str:
        """The file, and the array in it, for errors."""
        ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype: ...

    def take(self, rows: Indices) -> np.ndarray:
        """Copies of these rows, in this order."""
        ...


class Shards:
    """The rows of several files, one file after the other, as if they were one array.

    Args:
        parts: Arrays of the same type and shape, but for the number of rows.

    Raises:
        HpcDlError: A part is empty, not made of numbers, or differs from the first.
    """

    def __init__(self, parts: Sequence[Rows]) -> None:
        first = parts[0]
        for part in parts:
            if part.dtype.kind not in "biuf":
                raise HpcDlError(f"data in {part.name}", f"values of type {part.dtype}", "write plain numbers")
            if not part.shape or part.shape[0] == 0:
                raise HpcDlError(f"data in {part.name}", f"no rows (shape {part.shape})", "leave this file out")
            if part.shape[1:] != first.shape[1:] or part.dtype != first.dtype:
                raise HpcDlError(
                    f"data in {part.name}",
                    f"rows of shape {part.shape[1:]} and type {part.dtype}; {first.name} has {first.shape[1:]} and "
                    f"{first.dtype}",
                    "write all files alike",
                )
        self.name, self.dtype = first.name, first.dtype
        self._parts = parts
        self._starts = [0, *itertools.accumulate(part.shape[0] for part in parts)]
        self.shape = (self._starts[-1], *first.shape[1:])
        self.lengths = [part.shape[0] for part in parts]

    def take(self, rows: Indices) -> np.ndarray:
        if len(self._parts) == 1:
            return self._parts[0].take(rows)
        taken = np.empty((len(rows), *self.shape[1:]), self.dtype)
        owner = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(owner):
            here = owner == number
            taken[here] = self._parts[number].take(rows[here] - self._starts[number])
        return taken

    def owner(self, row: int) -> Rows:
        """The file that holds a row."""
        return self._parts[bisect.bisect_right(self._starts, row) - 1]


class Pairs:
    """A source: row i of the inputs with row i of the target.

    Args:
        inputs: Numbers of any shape.
        target: As many rows.
        scale: Factor of the inputs, which become float32; without it whole numbers stay what they are. Floating-point
            numbers become float32 in any case, and targets of one whole number int64, as torch's losses want them.
        transform: Applied to the inputs of every batch.

    Raises:
        HpcDlError: Inputs and targets do not belong together.
    """

    def __init__(
        self,
        inputs: Shards,
        target: Shards,
        scale: float | None = None,
        transform: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        if inputs.lengths != target.lengths:
            raise HpcDlError(
                f"inputs in {inputs.name} ... and targets in {target.name} ...",
                f"{_listed(inputs.lengths)} and {_listed(target.lengths)} rows",
                "give one target per input, file by file",
            )
        self._inputs, self._target, self._scale, self._transform = inputs, target, scale, transform

    def __len__(self) -> int:
        return self._inputs.shape[0]

    def batch(self, indices: Indices) -> Pair:
        inputs, target = (_tensor(part.take(indices)) for part in (self._inputs, self._target))
        if self._scale is not None:
            inputs = inputs.float() * self._scale
        if not target.is_floating_point() and target.dim() == 1:
            target = target.long()
        return self._transform(inputs) if self._transform else inputs, target


def files(pattern: str | Sequence[str], what: str) -> list[Path]:
    """The files of one or several patterns such as "train/x-*.npy", in order of name.

    Raises:
        HpcDlError: A pattern matches no file.
    """
    patterns = [pattern] if isinstance(pattern, str) else list(pattern)
    found: list[Path] = []
    for each in patterns:
        matches = sorted(glob.glob(str(Path(each).expanduser())))
        if not matches:
            raise HpcDlError(
                f"{what} = {each!r}", "no such file", "check the path; jobs start in the folder of submission"
            )
        found += map(Path, matches)
    return found


def data(train: Pairs, evaluation: Pairs | None, held_back: float, seed: int) -> Data:
    """Training and evaluation samples; without the latter a part of the former is held back."""
    return split(train, held_back, seed) if evaluation is None else Data(train, evaluation)


def _tensor(array: np.ndarray) -> torch.Tensor:
    native = array.astype(np.float32 if array.dtype.kind == "f" else array.dtype.newbyteorder("="), copy=False)
    return torch.from_numpy(native)


def _listed(lengths: Sequence[int]) -> str:
    return (
        str(lengths[0]) if len(lengths) == 1 else f"[{', '.join(map(str, lengths[:8]))}{', ...' * (len(lengths) > 8)}]"
    )
