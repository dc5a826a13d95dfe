# SPDX-License-Identifier: Apache-2.0
"""An array in a file, mapped into memory and read row by row, that may be larger than memory.

The pages of a mapped file count as this process' memory once they are touched. They are given back every
`RELEASE_BYTES`, so that a job's memory limit never meets the size of the data; the kernel keeps them cached as long as
nobody else needs the space, and ranks of a node share them.
"""

from __future__ import annotations

import math
import mmap
from pathlib import Path
from typing import Any

import numpy as np

from hpc_dl.data.sharding import Indices
from hpc_dl.errors import HpcDlError

RELEASE_BYTES = 64 * 2**20
FAULT_BYTES = 64 * 2**10
"""A touched page brings its neighbours along, in blocks of this size (Linux, fault_around_bytes)."""


class Mapped:
    """Rows of an array in a file; opened where it is used, so it can be handed to loader processes.

    Args:
        path: The file.
        dtype: Type of the values.
        offset: Bytes before the first value.
        shape: Shape of the array, rows along the first axis; None for one axis over the whole file.

    Raises:
        HpcDlError: The file is missing or has not the size that shape and type ask for.
    """

    def __init__(self, path: Path, dtype: np.dtype[Any], offset: int, shape: tuple[int, ...] | None) -> None:
        try:
            size = path.stat().st_size
        except OSError as error:
            raise HpcDlError(f"file {path}", error.strerror or str(error), "check the path") from None
        if shape is None:
            if (size - offset) % dtype.itemsize:
                raise HpcDlError(
                    f"file {path}",
                    f"{size} bytes, no whole number of {dtype}",
                    "give the type it was written with, or write it again",
                )
            shape = ((size - offset) // dtype.itemsize,)
        wanted = offset + math.prod(shape) * dtype.itemsize
        if size < wanted:
            raise HpcDlError(
                f"file {path}",
                f"{size} bytes, shape {shape} of {dtype} needs {wanted}",
                "it was cut short: write it again",
            )
        self.path, self.dtype, self.shape = path, dtype, shape
        self._offset = offset
        self._map: mmap.mmap | None = None
        self._touched = 0

    def __len__(self) -> int:
        return self.shape[0]

    def take(self, rows: Indices) -> np.ndarray:
        """A copy of some rows, in the shape of `rows` with that of a row behind."""
        if self._map is None:
            with self.path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        array = np.frombuffer(self._map, self.dtype, math.prod(self.shape), self._offset).reshape(self.shape)
        taken: np.ndarray = array[rows]
        self._touched += taken.nbytes + len(rows) * FAULT_BYTES
        if self._touched > RELEASE_BYTES and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)
            self._touched = 0
        return taken

    def close(self) -> None:
        """Give the file back; the next `take` opens it again."""
        self._map = None  # closed with the last array that looks into it

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_map": None}
