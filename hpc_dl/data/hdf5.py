# SPDX-License-Identifier: Apache-2.0
"""Your own arrays in HDF5 files, read row by row; needs h5py (`pip install 'hpc_dl[hdf5]'`).

Files are opened by the process that reads them, never before loader processes start: a handle does not survive in a
child. They are opened without a lock, because many parallel file systems (CFS at NERSC among them) know no locks and
HDF5 then refuses to open; so nobody may write to them meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hpc_dl.data import rows
from hpc_dl.data.base import Data
from hpc_dl.data.sharding import Indices
from hpc_dl.errors import HpcDlError, nearest

CHUNK_CACHE_BYTES = 32 * 2**20
"""Per dataset; a chunk that does not fit is unpacked again for every row (HDF5's default is 1 MiB)."""
MOST_FILES = 256

_FILES: dict[tuple[int, Path], Any] = {}


def load(
    files: str | Sequence[str],
    inputs: str = "inputs",
    target: str = "target",
    evaluation_files: str | Sequence[str] | None = None,
    held_back: float = 0.1,
    seed: int = 0,
    scale: float | None = None,
    transform: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> Data:
    """Samples along the first axis of two datasets in each of some HDF5 files.

    Args:
        files: File or pattern ("train/*.h5"), or a list of them.
        inputs: Name of the dataset with the inputs in every file, such as "group/images".
        target: Name of the dataset with the targets.
        evaluation_files: The same for the evaluation.
        held_back: Fraction of the training samples held back where no evaluation files are given.
        seed: Which samples are held back.
        scale: Factor of the inputs, for instance 1 / 255 for images of bytes.
        transform: Applied to the inputs of every batch.

    Raises:
        HpcDlError: h5py is missing; a file is missing, cut short or no HDF5 file; a dataset is missing, empty, of
            another shape or type than in the other files.
    """

    def pairs(pattern: str | Sequence[str], setting: str) -> rows.Pairs:
        paths = rows.files(pattern, setting)
        x, y = (rows.Shards([Hdf5Rows(path, key) for path in paths]) for key in (inputs, target))
        return rows.Pairs(x, y, scale, transform)

    train = pairs(files, "files")
    evaluation = None if evaluation_files is None else pairs(evaluation_files, "evaluation_files")
    return rows.data(train, evaluation, held_back, seed)


class Hdf5Rows:
    """Rows of one dataset of one file."""

    def __init__(self, path: Path, key: str) -> None:
        dataset = _dataset(path, key)
        self.name = f"{path}:{key}"
        self.shape, self.dtype = tuple(dataset.shape), dataset.dtype
        self._path, self._key = path, key

    def take(self, rows: Indices) -> np.ndarray:
        """Copies of these rows, in this order."""
        dataset = _dataset(self._path, self._key)
        taken = np.empty((len(rows), *self.shape[1:]), self.dtype)
        for place, row in enumerate(rows):  # several times faster than dataset[rows], as measured with h5py 3.16
            taken[place] = dataset[int(row)]
        return taken


def _dataset(path: Path, key: str) -> Any:
    """A dataset of a file that this process has open, or opens now."""
    try:
        import h5py
    except ImportError:
        raise HpcDlError(f"file {path}", "h5py is not installed", "pip install 'hpc_dl[hdf5]'") from None
    mine = (os.getpid(), path)  # a forked child must not use its parent's handle
    if mine not in _FILES:
        if len(_FILES) >= MOST_FILES:
            _FILES.clear()
        try:
            _FILES[mine] = h5py.File(path, "r", locking=False, rdcc_nbytes=CHUNK_CACHE_BYTES)
        except OSError as error:
            raise HpcDlError(
                f"file {path}", f"not a whole HDF5 file ({error})", "check it with `h5ls`, or copy it again"
            ) from None
    found = _FILES[mine].get(key)
    if not isinstance(found, h5py.Dataset):
        known: list[str] = []
        _FILES[mine].visititems(lambda name, item: known.append(name) if isinstance(item, h5py.Dataset) else None)
        raise HpcDlError(f"dataset {key!r} in {path}", "there is none", nearest(key, known))
    return found
