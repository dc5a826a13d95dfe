# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: written whole or not at all by rank 0, read back by rank 0 and handed to all.

`checkpoints/step-00001200.pt` holds states, as of model and optimizer, and the position. It is written beside and
renamed, so a file of that name is complete. Random state need not be stored: it follows from seed, rank and step
(`data/seeds.py`).
"""

from __future__ import annotations

import io
import os
import pickle
import shutil
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from hpc_dl.errors import HpcDlError

FOLDER = "checkpoints"
OF_TRAINER = ("model", "optimizer", "scaler")
VERSION = 2
"""Version 1, which is read, too, had the states of the Trainer beside the position."""


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
        self._read_back = False

    def write(
        self, position: Position, states: Mapping[str, Any], order: Mapping[str, int] | None = None, name: str = ""
    ) -> Path:
        """Write one; only rank 0 calls it. The first one is read back, as a run that resumes would read it.

        Args:
            position: How far the run has come.
            states: Tensors and plain values, in dictionaries; by name.
            order: What decides which samples the steps ahead take, by name.
            name: Of one that stays beside those of steps, in place of the one before of that name.

        Raises:
            HpcDlError: It holds what cannot be read back, or cannot be written; names what.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        for half_written in self._folder.glob("step-*.part"):  # by a run that was killed
            half_written.unlink()
        path = self._folder / (f"{name}.pt" if name else f"step-{position.step:08d}.pt")
        beside = path.with_suffix(".part")
        content = {"version": VERSION, "position": asdict(position), "states": states, "order": dict(order or {})}
        _save(content, beside, path)
        if not self._read_back:
            _refuse_unreadable(beside, content)
            self._read_back = True
        beside.replace(path)
        self._sync_folder()
        for old in self.paths()[: -self._keep]:
            old.unlink()
        return path

    def paths(self) -> list[Path]:
        """Whole checkpoints, oldest first."""
        return sorted(self._folder.glob("step-*.pt"))

    def newest(self) -> dict[str, Any] | None:
        """The newest checkpoint that is whole; None where nothing was ever written.

        Damaged ones are named on stderr and put aside: they must not count among those that are kept.

        Raises:
            HpcDlError: One is whole and cannot be read here, or all are damaged.
        """
        for path in reversed(self.paths()):
            try:
                return read(path)
            except DamagedError as error:
                aside = path.rename(path.with_suffix(".damaged"))
                print(f"hpc-dl: {error}\n  It is now {aside.name}; trying the one before.", file=sys.stderr)
        if damaged := sorted(self._folder.glob("step-*.damaged")):
            raise HpcDlError(
                "resuming", f"all checkpoints in {self._folder} are damaged", f"remove {damaged[-1].name} to begin anew"
            )
        return None

    def _sync_folder(self) -> None:
        """Make the rename last, too."""
        descriptor = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class DamagedError(HpcDlError):
    """A checkpoint whose bytes are not those that were written."""


def read(path: Path) -> dict[str, Any]:
    """The content of a checkpoint, on the CPU. Loads tensors and plain values only, never code.

    Raises:
        DamagedError: The file is not whole.
        HpcDlError: It is whole and cannot be read: for another reason, which may pass, or by this version.
    """
    try:
        file = io.BytesIO(path.read_bytes())
    except (OSError, MemoryError) as error:
        raise _unreadable(path, str(error) or "out of memory", "mend that, and resume again") from error
    try:
        with zipfile.ZipFile(file) as archive:  # torch.save writes checksums, torch.load does not look at them
            part = archive.testzip()
    except Exception as error:  # zipfile raises a different type for each kind of damage
        raise DamagedError(f"checkpoint {path}", f"cannot be read ({error})", "use an older one") from error
    if part:
        raise DamagedError(f"checkpoint {path}", f"the checksum of its part {part} is wrong", "use an older one")
    file.seek(0)
    try:
        content: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's advice for files with code in them is to load them all the same: not ours
        raise _unreadable(path, "it holds more than tensors and values", "use one of a run of this hpc_dl") from error
    except Exception as error:
        raise _unreadable(path, str(error).partition("\n")[0] or type(error).__name__, "mend that") from error
    if content.get("version") == 1:
        evaluations = {"step": content["position"]["step"], "value": None, "worse": 0}
        states = {name: content.pop(name) for name in OF_TRAINER if name in content}
        content = {"states": states | {"evaluations": evaluations}} | content
    elif content.get("version") != VERSION:
        raise HpcDlError(
            f"checkpoint {path}",
            f"has version {content.get('version')}, this hpc_dl reads {VERSION}",
            "read it with the hpc_dl that wrote it",
        )
    return content


def _unreadable(path: Path, found: str, remedy: str) -> HpcDlError:
    return HpcDlError(f"checkpoint {path}", f"cannot be read ({found})", remedy)


def _save(content: dict[str, Any], beside: Path, path: Path) -> None:
    """Write the file beside its place, onto the disk, or leave nothing."""
    try:
        with beside.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:  # torch makes a RuntimeError of a full disk
        found = _room(beside, error)
        beside.unlink(missing_ok=True)
        what = "make room, or put the run's folder elsewhere (log.folder), and resume: the checkpoint before is whole"
        raise HpcDlError(f"checkpoint {path}", found, what) from error


def _room(beside: Path, error: Exception) -> str:
    """What went wrong as a file was written, and how much room there is."""
    why = error.strerror if isinstance(error, OSError) else str(error).partition("\n")[0]
    disk, written = shutil.disk_usage(beside.parent), beside.stat().st_size if beside.exists() else 0
    room = f"the file system has {disk.free / 1e6:.1f} MB free of {disk.total / 1e6:.1f} MB"
    return f"writing ended after {written / 1e6:.1f} MB ({why}); {room}"


def _refuse_unreadable(path: Path, content: dict[str, Any]) -> None:
    """Read what has just been written; where that fails, say which part of the content is to blame."""
    try:
        read(path)
    except HpcDlError as error:
        path.unlink()
        raise HpcDlError(
            "a checkpoint that can be resumed from",
            f"{_culprit(content['states']) or 'what is written'} cannot be read back: {error.found}",
            "keep tensors and plain numbers, strings, lists and dictionaries in states (get_extra_state, optimizers)",
        ) from error


def _culprit(value: Any, name: str = "") -> str:
    """Where the first part is that cannot be read back by itself."""
    if isinstance(value, dict):
        parts = ((f"{name}[{key!r}]" if name else str(key), part) for key, part in value.items())
        return next((found for place, part in parts if (found := _culprit(part, place))), "")
    buffer = io.BytesIO()
    torch.save(value, buffer)
    buffer.seek(0)
    try:
        torch.load(buffer, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        return f"{name}, of type {type(value).__name__},"
    return ""
