# SPDX-License-Identifier: Apache-2.0
"""An array in a file, mapped into memory and read row by row, that may be larger than memory.

The pages of a mapped file count as this process' memory once they are touched. All are given back every `RELEASE_BYTES`
by closing the map, so that a job's memory limit never meets the size of the data. The kernel keeps them cached as long
as nobody else needs the space, and the ranks of a node share them.
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
MOST_FILES = 256
"""Maps open at a time; a process may usually have 1024 files open."""
Key = tuple[Path, int, int, int]
"""Path, inode, time of change and size: a file that was written anew under its old name is another one."""
FAULT_BYTES = 64 * 2**10
"""A touched page brings its neighbours along, in blocks of this size (Linux, fault_around_bytes)."""


class Mapped:
    """Rows of an array in a file. Only its description is kept, so it can be handed to loader processes.

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
            status = path.stat()
        except OSError as error:
            raise HpcDlError(f"file {path}", error.strerror or str(error), "check the path") from None
        size = status.st_size
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
        self.path, self.name, self.dtype, self.shape = path, str(path), dtype, shape
        self._offset = offset
        self._key = (path, status.st_ino, status.st_mtime_ns, size)

    def __len__(self) -> int:
        return self.shape[0]

    def take(self, rows: Indices) -> np.ndarray:
        """A copy of some rows, in the shape of `rows` with that of a row behind."""
        array = np.frombuffer(_MAPS.get(self._key), self.dtype, math.prod(self.shape), self._offset).reshape(self.shape)
        taken: np.ndarray = array[rows]
        del array  # nothing may look into the map any more
        _MAPS.touched(taken.nbytes + len(rows) * FAULT_BYTES)
        return taken


class _Maps:
    """The files this process has mapped: all are given back when they have touched enough together, or are many."""

    def __init__(self) -> None:
        self._maps: dict[Key, mmap.mmap] = {}
        self._touched = 0

    def get(self, key: Key) -> mmap.mmap:
        if key not in self._maps:
            if len(self._maps) >= MOST_FILES:
                self._maps.clear()
            with key[0].open("rb") as file:
                self._maps[key] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return self._maps[key]

    def touched(self, size_bytes: int) -> None:
        self._touched += size_bytes
        if self._touched > RELEASE_BYTES:
            self._maps.clear()
            self._touched = 0


_MAPS = _Maps()
