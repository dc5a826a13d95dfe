# SPDX-License-Identifier: Apache-2.0
"""Checkpoints are whole or not there, survive damage, and load nothing but data."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from hpc_dl.errors import HpcDlError
from hpc_dl.training.checkpoint import Checkpoints, Position, read

MODEL = {"weight": torch.arange(6.0).view(2, 3)}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    position = Position(step=7, epoch=1, epoch_samples=32, samples=96)
    path = Checkpoints(tmp_path, keep=2).write(position, MODEL, {"state": {}, "param_groups": [{"lr": 0.1}]})
    content = read(path)
    assert Position(**content["position"]) == position
    assert torch.equal(content["model"]["weight"], MODEL["weight"])
    assert content["optimizer"]["param_groups"] == [{"lr": 0.1}]


def test_the_newest_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (5, 10, 15):
        checkpoints.write(Position(step=step), MODEL, {})
    assert [path.name for path in checkpoints.paths()] == ["step-00000010.pt", "step-00000015.pt"]


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty", "one bit"])
def test_a_damaged_one_is_named_and_the_one_before_is_used(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoints = Checkpoints(tmp_path, keep=3)
    checkpoints.write(Position(step=5), MODEL, {})
    path = checkpoints.write(Position(step=10), MODEL, {})
    whole = path.read_bytes()
    values = MODEL["weight"].numpy().tobytes()
    flipped = whole.replace(values, bytes([values[0] ^ 1]) + values[1:])
    damaged = {"cut": whole[: len(whole) // 2], "garbage": b"x" * 500, "empty": b"", "one bit": flipped}[damage]
    assert damaged != whole
    path.write_bytes(damaged)
    content = checkpoints.newest()
    assert content is not None
    assert content["position"]["step"] == 5
    assert "step-00000010.pt" in capsys.readouterr().err


def test_a_write_that_breaks_off_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.write(Position(step=5), MODEL, {})

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        checkpoints.write(Position(step=10), MODEL, {})
    newest = checkpoints.newest()
    assert newest is not None
    assert newest["position"]["step"] == 5


class Evil:
    """Runs a command when unpickled by an unsafe loader."""

    def __reduce__(self) -> tuple:
        return os.system, ("touch evil-was-here",)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"version": 1, "model": Evil()}, tmp_path / "step-00000001.pt")
    with pytest.raises(HpcDlError, match="cannot be read"):
        read(tmp_path / "step-00000001.pt")
    assert not (tmp_path / "evil-was-here").exists()
