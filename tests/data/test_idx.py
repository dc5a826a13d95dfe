# SPDX-License-Identifier: Apache-2.0
"""IDX files are read exactly, and whatever is wrong with them is named with what to do."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from hpc_dl.data import idx
from hpc_dl.data.base import Source
from hpc_dl.errors import HpcDlError

FASHION = Path("/usr/share/datasets/fashion-mnist")
MARKS = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}


def idx_bytes(array: np.ndarray) -> bytes:
    mark = MARKS[array.dtype.str[1:]]
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, mark, array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    for part, count in (("train", 20), ("t10k", 6)):
        images = generator.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(idx_bytes(images))
        labels = np.arange(count, dtype=np.uint8) % 10
        (tmp_path / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(labels)))
    return tmp_path


def whole(source: Source) -> tuple[torch.Tensor, torch.Tensor]:
    return source.batch(np.arange(len(source)))


@pytest.mark.parametrize("kind", ["u1", "i1", "i2", "i4", "f4", "f8"])
@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_every_type_is_read_exactly(kind: str, compress: type, tmp_path: Path) -> None:
    array = np.arange(24).reshape(2, 3, 4).astype(kind)
    path = tmp_path / "array"
    path.write_bytes(compress(idx_bytes(array)))
    assert np.array_equal(idx.read(path), array)
    assert idx.read(path).shape == (2, 3, 4)


def test_images_are_normalised_by_the_training_part(folder: Path) -> None:
    data = idx.load(str(folder))
    images, classes = whole(data.train)
    assert images.shape == (20, 1, 28, 28)
    assert classes.tolist() == [i % 10 for i in range(20)]
    assert abs(float(images.mean())) < 1e-5
    assert abs(float(images.std(correction=0)) - 1) < 1e-5
    assert len(data.evaluation) == 6


def test_images_may_be_enlarged_also_where_a_rank_has_none(folder: Path) -> None:
    source = idx.load(str(folder), size=64).train
    assert source.batch(np.arange(3))[0].shape == (3, 1, 64, 64)
    assert source.batch(np.arange(0))[0].shape == (0, 1, 64, 64)


def test_the_other_spelling_is_found(folder: Path) -> None:
    for path in list(folder.iterdir()):
        path.rename(folder / path.name.replace("-idx", ".idx"))
    assert len(idx.load(str(folder)).train) == 20


@pytest.mark.parametrize(
    ("name", "spoil", "words"),
    [
        ("train-images-idx3-ubyte", lambda b: b[:-1], "promises 15680 bytes"),
        ("train-images-idx3-ubyte", lambda b: b + b"x", "promises 15680 bytes"),
        ("train-images-idx3-ubyte", lambda b: b[:9], "ends within its header"),
        ("train-images-idx3-ubyte", lambda b: b"", "not the mark of an IDX file"),
        ("train-images-idx3-ubyte", lambda b: b"<html>not found</html>", "not the mark of an IDX file"),
        ("train-labels-idx1-ubyte.gz", lambda b: b[:-9], "does not unpack"),
        ("train-labels-idx1-ubyte.gz", lambda b: b[:20] + b"\0\0\0" + b[23:], "does not unpack"),
        ("train-labels-idx1-ubyte.gz", lambda b: idx_bytes(np.zeros(19, np.uint8)), "20 images and 19 labels"),
        ("train-labels-idx1-ubyte.gz", lambda b: idx_bytes(np.zeros((20, 2), np.uint8)), "not labels"),
        ("t10k-images-idx3-ubyte", lambda b: idx_bytes(np.zeros(6, np.uint8)), "not images"),
    ],
)
def test_what_is_wrong_is_named(folder: Path, name: str, spoil: Callable[[bytes], bytes], words: str) -> None:
    path = folder / name
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(HpcDlError, match=words) as caught:
        idx.load(str(folder))
    assert name in str(caught.value) or name.removesuffix(".gz") in str(caught.value)
    assert caught.value.remedy


def test_labels_in_place_of_images_are_noticed(folder: Path) -> None:
    labels = (folder / "train-labels-idx1-ubyte.gz").read_bytes()
    (folder / "train-images-idx3-ubyte").write_bytes(labels)
    with pytest.raises(HpcDlError, match="uint8 of 1 axes, not images"):
        idx.load(str(folder))


def test_missing_files_and_folders_say_where_to_get_them(folder: Path) -> None:
    (folder / "t10k-images-idx3-ubyte").unlink()
    with pytest.raises(HpcDlError, match=r"t10k-images-idx3-ubyte\[.gz\].*\n.*apt-get install dataset-fashion-mnist"):
        idx.load(str(folder))
    with pytest.raises(HpcDlError, match="no folder /not/there"):
        idx.load("/not/there")
    with pytest.raises(HpcDlError, match="fashion-mnist, mnist"):
        idx.load(name="fashion")


@pytest.mark.skipif(not FASHION.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed")
def test_fashion_mnist_as_debian_ships_it() -> None:
    data = idx.load()
    assert (len(data.train), len(data.evaluation)) == (60_000, 10_000)
    _, classes = whole(data.evaluation)
    assert torch.bincount(classes).tolist() == [1000] * 10
