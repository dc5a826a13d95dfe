# SPDX-License-Identifier: Apache-2.0
"""Real text that every machine has: the sources of Python's standard library, read as bytes."""

from __future__ import annotations

import platform
import sysconfig
import tempfile
import uuid
from pathlib import Path

import numpy as np

from hpc_dl.data.base import Data
from hpc_dl.data.split import Subset
from hpc_dl.data.tokens import Windows

HELD_BACK_EVERY = 20


def load(length: int = 128, evaluation_windows: int = 512, folder: str | None = None) -> Data:
    """Windows of the library's text as bytes (tokens 0 to 255); every twentieth file is held back for evaluation.

    The text is written once into two files (12 MB together), and mapped into memory from there.

    Args:
        length: Bytes per window, the model's context.
        evaluation_windows: How many of the held-back windows are used, evenly over the text.
        folder: Where the two files are kept; by default the node's folder for temporary files.
    """
    home = Path(folder or tempfile.gettempdir())
    paths = [home / f"hpc-dl-text-python-{platform.python_version()}-{part}.bin" for part in ("train", "evaluation")]
    if not all(path.exists() for path in paths):
        _write(paths)
    train, held_back = (Windows(path, length, "uint8", vocabulary=256) for path in paths)
    chosen = np.linspace(0, len(held_back) - 1, min(evaluation_windows, len(held_back))).astype(np.int64)
    return Data(train, Subset(held_back, chosen))


def _write(paths: list[Path]) -> None:
    """Both files, whole or not at all: ranks of a node may write at the same time, each renames its own."""
    library = Path(sysconfig.get_path("stdlib"))
    sources = [
        path
        for path in sorted(library.rglob("*.py"))
        if not {"site-packages", "dist-packages", "test", "tests"} & set(path.relative_to(library).parts)
    ]
    texts = [path.read_bytes() for path in sources]
    for path, held_back in zip(paths, (False, True), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(f".{uuid.uuid4().hex}")
        beside.write_bytes(b"".join(text for i, text in enumerate(texts) if (i % HELD_BACK_EVERY == 0) == held_back))
        beside.replace(path)
