# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: written whole or not at all by rank 0, read back by rank 0 and handed to all.

`checkpoints/step-00001200.pt` holds model, optimizer and position. It is written beside and renamed, so a file of that
name is complete. Random state need not be stored: it follows from seed, rank and step (`seeds.py`).
"""

from __future__ import annotations

import io
import os
import pickle
import sys
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from hpc_dl.errors import HpcDlError

FOLDER = "checkpoints"
VERSION = 1


@dataclass(frozen=True)
class Position:
    """How far a run has come."""

    step: int = 0
    """Optimizer steps done."""
    epoch: int = 0
    """Epochs completed."""
    epoch_samples: int = 0
    """Samples of the current epoch already used, over all ranks: independent of the world size."""
    samples: int = 0
    """Samples used in all."""


class Checkpoints:
    """The checkpoints of one run folder.

    Args:
        run_folder: The run's folder.
        keep: How many stay; older ones are deleted after a newer one is whole.
    """

    def __init__(self, run_folder: Path, keep: int) -> None:
        self._folder = run_folder / FOLDER
        self._keep = keep

    def write(
        self,
        position: Position,
        model: dict[str, Any],
        optimizer: dict[str, Any],
        scaler: dict[str, Any] | None = None,
    ) -> Path:
        """Write one; only rank 0 calls it. `scaler` is the loss scale of fp16."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"step-{position.step:08d}.pt"
        beside = path.with_suffix(".part")
        content = {
            "version": VERSION,
            "position": asdict(position),
            "model": model,
            "optimizer": optimizer,
            "scaler": scaler or {},
        }
        with beside.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        self._sync_folder()
        for old in self.paths()[: -self._keep]:
            old.unlink()
        return path

    def paths(self) -> list[Path]:
        """Whole checkpoints, oldest first."""
        return sorted(self._folder.glob("step-*.pt"))

    def newest(self) -> dict[str, Any] | None:
        """The newest checkpoint that can be read. Damaged ones are named on stderr and put aside: they must not count
        among those that are kept."""
        for path in reversed(self.paths()):
            try:
                return read(path)
            except HpcDlError as error:
                aside = path.rename(path.with_suffix(".damaged"))
                print(f"hpc-dl: {error}\n  It is now {aside.name}; trying the one before.", file=sys.stderr)
        return None

    def _sync_folder(self) -> None:
        """Make the rename last, too."""
        descriptor = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read(path: Path) -> dict[str, Any]:
    """The content of a checkpoint, on the CPU. Loads tensors and plain values only, never code."""
    try:
        file = io.BytesIO(path.read_bytes())
        with zipfile.ZipFile(file) as archive:  # torch.save writes checksums, torch.load does not look at them
            if part := archive.testzip():
                raise ValueError(f"the checksum of its part {part} is wrong")
        file.seek(0)
        content: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises a different type for each kind of damage
        # torch's advice for files with code in them is to load them all the same: not ours
        unsafe = isinstance(error, pickle.UnpicklingError)
        reason = "it is damaged, or holds more than tensors and values" if unsafe else str(error).partition("\n")[0]
        raise HpcDlError(f"checkpoint {path}", f"cannot be read ({reason})", "use an older one") from error
    if content.get("version") != VERSION:
        raise HpcDlError(
            f"checkpoint {path}",
            f"has version {content.get('version')}, this hpc_dl reads {VERSION}",
            "read it with the hpc_dl that wrote it",
        )
    return content
