# SPDX-License-Identifier: Apache-2.0
"""Write small data sets in each of the forms docs/data.md describes, from scikit-learn's digits and Python sources.

`python examples/your_data/make.py FOLDER`
"""

import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits


def main(folder: Path) -> None:
    images, classes = load_digits(return_X_y=True)
    images = images.reshape(-1, 1, 8, 8).astype(np.uint8) * 15  # bytes from 0 to 240
    npy(folder / "npy", images, classes)
    hdf5(folder / "hdf5", images, classes)
    pictures(folder / "images", images, classes)
    tokens(folder / "tokens")
    print(f"written to {folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")


def npy(folder: Path, images: np.ndarray, classes: np.ndarray) -> None:
    """Four shards of inputs and targets."""
    folder.mkdir(parents=True, exist_ok=True)
    for shard, (x, y) in enumerate(zip(np.array_split(images, 4), np.array_split(classes, 4), strict=True)):
        np.save(folder / f"x-{shard}.npy", x)
        np.save(folder / f"y-{shard}.npy", y)


def hdf5(folder: Path, images: np.ndarray, classes: np.ndarray) -> None:
    """Two files with two datasets each; one chunk per sample, since samples are read one by one."""
    import h5py

    folder.mkdir(parents=True, exist_ok=True)
    for shard, (x, y) in enumerate(zip(np.array_split(images, 2), np.array_split(classes, 2), strict=True)):
        with h5py.File(folder / f"{shard}.h5", "w") as file:
            file.create_dataset("images", data=x, chunks=(1, *x.shape[1:]))
            file.create_dataset("classes", data=y)


def pictures(folder: Path, images: np.ndarray, classes: np.ndarray) -> None:
    """A folder of PNG files for every class."""
    from PIL import Image

    for number, (image, label) in enumerate(zip(images, classes, strict=True)):
        home = folder / str(label)
        home.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0]).save(home / f"{number:04}.png")


def tokens(folder: Path) -> None:
    """Two flat files of bytes: a tokenizer's numbers would be written the same way, as uint16."""
    folder.mkdir(parents=True, exist_ok=True)
    text = b"".join(path.read_bytes() for path in sorted(Path(np.__file__).parent.rglob("*.py"))[:200])
    tokens = np.frombuffer(text, np.uint8)
    cut = len(tokens) * 19 // 20
    tokens[:cut].tofile(folder / "train.bin")
    tokens[cut:].tofile(folder / "evaluation.bin")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "example_data"))
