# SPDX-License-Identifier: Apache-2.0
"""Ranks agree to stop after the same step, whoever was asked; a rank that cannot agree leaves by itself."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from hpc_dl.runlog.records import read_parts
from tests.ranks import clean_environment, hpc_dl, run_ranks

pytestmark = pytest.mark.parallel

TRAIN = [
    "mnist_cnn",
    "--task.loss",
    "tests.training.stopping:loss",
    "--training.steps",
    "60",
    "--log.window_steps",
    "2",
    "--log.warmup_steps",
    "1",
    "--exchange.check_every_steps",
    "10",
    "--log.folder",
]


def _train(engine: str, folder: Path, stopping: str, *words: str) -> tuple[int, str]:
    environ = clean_environment(STOPPING=stopping)
    ended = run_ranks(2, hpc_dl("train", *TRAIN, str(folder), "--exchange.engine", engine, *words), environ=environ)
    return ended.code, ended.output


@pytest.mark.parametrize(("engine", "name"), [("horovod", "SIGTERM"), ("torch", "SIGUSR1")])
def test_one_rank_is_asked_and_all_stop_after_the_same_step(engine: str, name: str, tmp_path: Path) -> None:
    code, output = _train(engine, tmp_path, f"1:12:{name}:0.02")
    assert code == 0, output
    assert "with a checkpoint: a signal asked for it" in output
    code, output = _train(engine, tmp_path, "-1:0::0", "--checkpoint.resume", "must")
    assert code == 0, output
    parts, broken = read_parts(tmp_path)
    assert not broken
    assert [part.end.reason for part in parts if part.end] == ["stopped", "finished"]
    assert 12 <= sum(window.steps for window in parts[0].windows) < 60
    assert sum(window.steps for part in parts for window in part.windows) == 60


def test_loader_processes_outlive_the_signal_that_their_ranks_get(tmp_path: Path) -> None:
    """Schedulers signal whole process groups."""
    code, output = _train("torch", tmp_path, "1:12:FAMILY:0.02", "--data.workers", "1")
    assert code == 0, output
    assert "Traceback" not in output
    assert "with a checkpoint: a signal asked for it" in output


@pytest.mark.horovod
def test_a_rank_whose_fellow_hangs_leaves_soon_after_sigterm(tmp_path: Path) -> None:
    """Rank 1 hangs, rank 0 waits for it in a collective and gets SIGTERM there."""
    begun = time.monotonic()
    code, output = _train("horovod", tmp_path, "1:12:HANG:0.02")
    assert code == 128 + 15, output
    assert time.monotonic() - begun < 30
