# SPDX-License-Identifier: Apache-2.0
"""Checkpoints are whole or not there, survive damage, and load nothing but data."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from hpc_dl.errors import HpcDlError
from hpc_dl.run.checkpoint import Checkpoints, Position, read

MODEL = {"weight": torch.arange(6.0).view(2, 3)}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    position = Position(step=7, epoch=1, epoch_samples=32, samples=96)
    optimizer = {"state": {}, "param_groups": [{"lr": 0.1}]}
    path = Checkpoints(tmp_path, keep=2).write(position, {"model": MODEL, "optimizer": optimizer})
    content = read(path)
    assert Position(**content["position"]) == position
    assert torch.equal(content["states"]["model"]["weight"], MODEL["weight"])
    assert content["states"]["optimizer"]["param_groups"] == [{"lr": 0.1}]


def test_the_newest_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (5, 10, 15):
        checkpoints.write(Position(step=step), {"model": MODEL, "optimizer": {}})
    assert [path.name for path in checkpoints.paths()] == ["step-00000010.pt", "step-00000015.pt"]


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty", "one bit"])
def test_a_damaged_one_is_named_and_the_one_before_is_used(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoints = Checkpoints(tmp_path, keep=3)
    checkpoints.write(Position(step=5), {"model": MODEL, "optimizer": {}})
    path = checkpoints.write(Position(step=10), {"model": MODEL, "optimizer": {}})
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


@contextlib.contextmanager
def files_of_at_most(size_bytes: int) -> Iterator[None]:
    """A real limit, as a quota is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_write_that_breaks_off_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.write(Position(step=5), {"model": MODEL, "optimizer": {}})
    (tmp_path / "checkpoints/step-00000007.part").write_bytes(b"of a run that was killed")
    large = {"weight": torch.zeros(1_000_000)}
    with files_of_at_most(200_000), pytest.raises(HpcDlError, match=r"step-00000010\.pt: writing ended.* MB free of"):
        checkpoints.write(Position(step=10), {"model": large, "optimizer": {}})
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000005.pt"]
    newest = checkpoints.newest()
    assert newest is not None
    assert newest["position"]["step"] == 5
    checkpoints.write(Position(step=10), {"model": large, "optimizer": {}})


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
