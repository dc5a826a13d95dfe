# SPDX-License-Identifier: Apache-2.0
"""MNIST and data sets in its format (Fashion-MNIST, KMNIST, EMNIST's digits): IDX files, gzipped or not.

Format: two zero bytes, a type byte, the number of axes, each axis' length (big-endian, 4 bytes), then the values in C
order. Source: Y. LeCun, C. Cortes and C. Burges, The MNIST database of handwritten digits, "File formats".
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hpc_dl.data.base import Arrays, Data
from hpc_dl.errors import HpcDlError

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}

# Where a folder is looked for when none is given; Debian's package dataset-fashion-mnist installs the first one.
FOLDERS = {
    "fashion-mnist": ("/usr/share/datasets/fashion-mnist", "~/datasets/fashion-mnist", "data/fashion-mnist"),
    "mnist": ("/usr/share/datasets/mnist", "~/datasets/mnist", "data/mnist"),
}
HOW_TO_GET = {
    "fashion-mnist": "apt-get install dataset-fashion-mnist, or name the folder of the four files: data.options.folder",
    "mnist": "download the four files of MNIST and name their folder: data.options.folder",
}


def load(folder: str | None = None, name: str = "fashion-mnist", size: int = 28, limit: int | None = None) -> Data:
    """The training and test images, normalised to mean 0 and deviation 1 of the training images.

    Args:
        folder: Where the four files are; without it, the places of `FOLDERS` are tried.
        name: "fashion-mnist" or "mnist": which folder to look for.
        size: Height and width the images (28 x 28) are enlarged to, for networks that want larger ones.
        limit: Use only the first so many images of each part.

    Raises:
        HpcDlError: A file is missing, truncated, of another type, or does not belong to its partner.
    """
    home = _folder(folder, name)
    images, classes = (part[:limit] for part in _pair(home, "train", name))
    pixels = images.astype(np.float32)
    transform = _Normalise(float(pixels.mean()), float(pixels.std()), size)
    test_images, test_classes = (part[:limit] for part in _pair(home, "t10k", name))
    return Data(
        Arrays(images[:, None], classes.astype(np.int64), transform),
        Arrays(test_images[:, None], test_classes.astype(np.int64), transform),
    )


def read(path: Path) -> np.ndarray:
    """The array of one IDX file.

    Raises:
        HpcDlError: Not an IDX file, shorter or longer than its header says, or broken compression.
    """
    content = _content(path)
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in TYPES:
        raise _broken(path, f"it begins with {content[:4].hex(' ')}, which is not the mark of an IDX file")
    axes, kind = content[3], np.dtype(TYPES[content[2]])
    start = 4 + 4 * axes
    if len(content) < start:
        raise _broken(path, "it ends within its header")
    shape = tuple(np.frombuffer(content, ">u4", count=axes, offset=4).tolist())
    there, wanted = len(content) - start, math.prod(shape) * kind.itemsize
    if there != wanted:
        raise _broken(path, f"its header promises {wanted} bytes of values for shape {shape}, there are {there}")
    return np.frombuffer(content, kind, offset=start).reshape(shape).astype(kind.newbyteorder("="))


class _Normalise:
    """Bytes to floats of mean 0 and deviation 1, batch by batch: the images stay bytes in memory."""

    def __init__(self, mean: float, deviation: float, size: int) -> None:
        self._mean, self._deviation, self._size = mean, deviation, size

    def __call__(self, images: Tensor) -> Tensor:
        images = images.float().sub_(self._mean).div_(self._deviation)
        if self._size == images.shape[-1]:
            return images
        if not len(images):  # interpolate refuses an empty batch
            return images.new_empty(0, 1, self._size, self._size)
        return torch.nn.functional.interpolate(images, size=(self._size, self._size), mode="bilinear")


def _folder(folder: str | None, name: str) -> Path:
    if name not in FOLDERS:
        raise HpcDlError(f"data set {name!r}", "no such name", f"give one of {', '.join(FOLDERS)}")
    places = [Path(place).expanduser() for place in ([folder] if folder else FOLDERS[name])]
    for place in places:
        if place.is_dir():
            return place
    raise HpcDlError(f"data set {name}", f"no folder {' or '.join(map(str, places))}", HOW_TO_GET[name])


def _pair(folder: Path, part: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels that belong together."""
    images_path, images = _find(folder, f"{part}-images-idx3-ubyte", name)
    labels_path, labels = _find(folder, f"{part}-labels-idx1-ubyte", name)
    if images.ndim != 3 or images.dtype != np.uint8:
        raise _broken(images_path, f"it holds {images.dtype} of {images.ndim} axes, not images (bytes of 3 axes)")
    if labels.ndim != 1:
        raise _broken(labels_path, f"it holds an array of {labels.ndim} axes, not labels (1 axis)")
    if len(images) != len(labels) or not len(images):
        raise HpcDlError(
            f"{images_path.name} with {labels_path.name}",
            f"{len(images)} images and {len(labels)} labels",
            f"take both files of {folder} from the same download",
        )
    return images, labels


def _find(folder: Path, stem: str, name: str) -> tuple[Path, np.ndarray]:
    """One file under the spellings in use: gzipped or not, '-idx3' or '.idx3'."""
    spellings = [spelling + end for spelling in (stem, stem.replace("-idx", ".idx")) for end in ("", ".gz")]
    for spelling in spellings:
        path = folder / spelling
        if path.is_file():
            return path, read(path)
    raise HpcDlError(f"file {stem}[.gz] in {folder}", "it is not there", HOW_TO_GET[name])


def _content(path: Path) -> bytes:
    """The bytes of a file, unpacked where they are gzipped, whatever the file is called."""
    content = path.read_bytes()
    if content[:2] != b"\x1f\x8b":
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, OSError, zlib.error) as error:
        raise _broken(path, f"it does not unpack ({error})") from None


def _broken(path: Path, found: str) -> HpcDlError:
    return HpcDlError(
        f"file {path}", found, "it was cut short or is another file: fetch it again, or name the right one"
    )
