# SPDX-License-Identifier: Apache-2.0
"""Your own images in folders, one folder per class: FOLDER/CLASS/anything.png; needs Pillow ('hpc_dl[images]').

Listing a folder of a million files is slow on a parallel file system, and every rank does it at once. Write the list
once, and all ranks read that instead:

    python -m hpc_dl.data.folders FOLDER
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from hpc_dl.data.base import Data, Pair
from hpc_dl.data.sharding import Indices
from hpc_dl.data.split import split
from hpc_dl.errors import HpcDlError

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
MODES = {1: "L", 3: "RGB"}
LIST = "images.txt"
"""CLASS/NAME of every image, one a line."""


def load(
    folder: str,
    evaluation_folder: str | None = None,
    size: int = 224,
    channels: int = 3,
    held_back: float = 0.1,
    seed: int = 0,
    transform: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> Data:
    """Images as (m, channels, size, size) between -1 and 1, and the number of their class in alphabetical order.

    Args:
        folder: Has a folder of images for every class.
        evaluation_folder: The same classes, for the evaluation.
        size: Height and width: the shorter side is scaled to it, the middle of the longer one kept.
        channels: 3 for colour, 1 for grey.
        held_back: Fraction of the images held back where no evaluation folder is given.
        seed: Which images are held back.
        transform: Applied to the inputs of every batch.

    Raises:
        HpcDlError: Pillow is missing; a folder is missing or has no classes; a class has no images; an image cannot
            be read; the two folders have different classes.
    """
    train = Images(Path(folder).expanduser(), size, channels, transform)
    if evaluation_folder is None:
        return split(train, held_back, seed)
    evaluation = Images(Path(evaluation_folder).expanduser(), size, channels, transform)
    if train.classes != evaluation.classes:
        odd = sorted(set(train.classes) ^ set(evaluation.classes))
        raise HpcDlError(
            f"classes of {folder} and {evaluation_folder}",
            f"only one of them has {', '.join(odd[:5])}",
            "give both the same folders",
        )
    return Data(train, evaluation)


class Images:
    """A source that reads images when they are asked for; give it loader processes. Arguments as `load`."""

    def __init__(
        self,
        folder: Path,
        size: int,
        channels: int = 3,
        transform: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        if channels not in MODES:
            raise HpcDlError(f"channels = {channels}", "neither grey nor colour", "give 1 or 3")
        self._folder, self._size, self._mode = folder, size, MODES[channels]
        self._transform = transform
        names = read_list(folder)
        self.classes = sorted({name.partition("/")[0] for name in names})
        number = {name: i for i, name in enumerate(self.classes)}
        # One array of fixed-width names, not a list: loader processes then share its memory and copy nothing.
        self._names = np.array([name.encode() for name in names])
        self._labels = torch.tensor([number[name.partition("/")[0]] for name in names])
        self.batch(np.array([int((self._labels == label).nonzero()[0]) for label in range(min(8, len(self.classes)))]))

    def __len__(self) -> int:
        return len(self._names)

    def batch(self, indices: Indices) -> Pair:
        pixels = np.empty((len(indices), self._size, self._size, len(self._mode)), np.uint8)
        for place, index in enumerate(indices):
            pixels[place] = self._read(self._folder / self._names[index].decode())
        inputs = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
        labels = self._labels[torch.from_numpy(indices)]
        return self._transform(inputs) if self._transform else inputs, labels

    def _read(self, path: Path) -> np.ndarray:
        """One image (size, size, channels)."""
        try:
            from PIL import Image, ImageOps
        except ImportError:
            raise HpcDlError(f"image {path}", "Pillow is not installed", "pip install 'hpc_dl[images]'") from None
        try:
            with Image.open(path) as image:
                fitted = ImageOps.fit(image.convert(self._mode), (self._size, self._size), Image.Resampling.BILINEAR)
        except (OSError, Image.DecompressionBombError) as error:
            raise HpcDlError(f"image {path}", f"cannot be read ({error})", "replace it, or take it away") from None
        return np.asarray(fitted).reshape(self._size, self._size, -1)


def read_list(folder: Path) -> list[str]:
    """CLASS/NAME of every image: from the folder's list where there is one, else by looking.

    Raises:
        HpcDlError: The folder is missing, or it or a class in it has no images.
    """
    if not folder.is_dir():
        raise HpcDlError(f"images in {folder}", "no such folder", "check the path")
    if (folder / LIST).is_file():
        names = (folder / LIST).read_text(encoding="utf-8").split("\n")
        return [name for name in names if name]
    names = []
    for home in sorted(path for path in folder.iterdir() if path.is_dir()):
        here = sorted(path.name for path in home.iterdir() if path.suffix.lower() in ENDINGS)
        if not here:
            raise HpcDlError(
                f"images in {home}", f"none (looked for {', '.join(ENDINGS)})", "fill or remove this folder"
            )
        names += [f"{home.name}/{name}" for name in here]
    if not names:
        raise HpcDlError(f"images in {folder}", "no folders of classes in it", "lay them out as FOLDER/CLASS/NAME.png")
    return names


def write_list(folder: Path) -> int:
    """Write the folder's list; returns how many images it has."""
    (folder / LIST).unlink(missing_ok=True)
    names = read_list(folder)
    beside = folder / f".{LIST}.part"
    beside.write_text("\n".join(names) + "\n", encoding="utf-8")
    beside.replace(folder / LIST)
    return len(names)


if __name__ == "__main__":
    for word in sys.argv[1:]:
        print(f"{word}: {write_list(Path(word)):,} images listed in {LIST}")
