# SPDX-License-Identifier: Apache-2.0
"""Your own arrays in .npy files, mapped into memory: as many files as you like, larger than memory if need be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hpc_dl.data import rows
from hpc_dl.data.base import Data
from hpc_dl.data.mapped import Mapped
from hpc_dl.errors import HpcDlError

Pattern = str | Sequence[str]


def load(
    inputs: Pattern,
    target: Pattern,
    evaluation_inputs: Pattern | None = None,
    evaluation_target: Pattern | None = None,
    held_back: float = 0.1,
    seed: int = 0,
    scale: float | None = None,
    transform: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> Data:
    """Samples along the first axis of arrays in .npy files.

    Args:
        inputs: File or pattern ("train/x-*.npy"), or a list of them.
        target: The same for the targets, file by file with as many rows as the inputs.
        evaluation_inputs: The same for the evaluation.
        evaluation_target: The same for its targets.
        held_back: Fraction of the training samples held back where no evaluation files are given.
        seed: Which samples are held back.
        scale: Factor of the inputs, for instance 1 / 255 for images of bytes.
        transform: Applied to the inputs of every batch.

    Raises:
        HpcDlError: A file is missing, cut short, empty, no .npy file, of another shape or type than the others.
    """

    def pairs(some_inputs: Pattern, some_target: Pattern, name: str) -> rows.Pairs:
        x, y = (
            rows.Shards([open_npy(path) for path in rows.files(pattern, f"{name}{part}")])
            for pattern, part in ((some_inputs, "inputs"), (some_target, "target"))
        )
        return rows.Pairs(x, y, scale, transform)

    train = pairs(inputs, target, "")
    if evaluation_inputs is None or evaluation_target is None:
        return rows.data(train, None, held_back, seed)
    return rows.data(train, pairs(evaluation_inputs, evaluation_target, "evaluation_"), held_back, seed)


def open_npy(path: Path) -> Mapped:
    """The rows of one .npy file.

    Raises:
        HpcDlError: It is no .npy file, cut short, or written in Fortran order.
    """
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran_order, dtype = read(file)
            offset = file.tell()
    except (OSError, ValueError) as error:
        raise HpcDlError(f"file {path}", f"not a readable .npy file ({error})", "write it with numpy.save") from None
    if fortran_order and len(shape) > 1:
        raise HpcDlError(
            f"file {path}",
            "written in Fortran order, where a row lies scattered",
            "save numpy.ascontiguousarray(array)",
        )
    return Mapped(path, _plain(dtype, path), offset, shape)


def _plain(dtype: np.dtype[Any], path: Path) -> np.dtype[Any]:
    if dtype.hasobject:
        raise HpcDlError(f"file {path}", f"values of type {dtype}: Python objects", "write plain numbers")
    return dtype
