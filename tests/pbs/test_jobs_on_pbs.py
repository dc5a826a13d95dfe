# SPDX-License-Identifier: Apache-2.0
"""`hpc-dl job` and `hpc-dl sweep` against the PBS stand-in: what they write, PBS takes; what PBS says, they read."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from standin.login import Login

from hpc_dl.commands import job, sweep
from hpc_dl.runlog.records import read_run

pytestmark = pytest.mark.parallel
WHERE = ("--machine", "aurora", "--account", "proj", "--minutes", "6", "--ranks-per-node", "1")
TRAIN = ("mnist_cnn", "--training.steps", "8", "--log.window_steps", "2", "--log.warmup_steps", "2")
ENGINE = ("--exchange.engine", "torch")


def status(login: Login, folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert job.main(["status", str(folder)], login.environ) == 0
    return capsys.readouterr().out


def wait(login: Login, folder: Path, capsys: pytest.CaptureFixture[str], seconds: float = 120) -> str:
    """What `hpc-dl job status` says once the job is over."""
    end = time.monotonic() + seconds
    while any(word in (line := status(login, folder, capsys)) for word in (" queued ", " running ")):
        assert time.monotonic() < end, line
        time.sleep(0.3)
    return line


def test_a_submitted_job_trains_the_users_words(
    login: Login, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(login.directory)
    name = "it's; $(touch bad)\n#PBS -q evil, `x`"
    folder = login.directory / "run"
    words = ["submit", *WHERE, "--nodes", "2", "--folder", str(folder), *TRAIN, *ENGINE, "--name", name]
    assert job.main(words, login.environ) == 0
    line = wait(login, folder, capsys)
    log = "\n".join(path.read_text() for path in folder.glob("*.o*"))
    assert "finished (F, exit status 0)" in line, log
    run = read_run(folder)
    assert (run.header.name, run.header.world_size, run.header.nodes) == (name, 2, 2)
    assert (folder / "report" / "report.html").exists(), log
    assert not list(login.directory.rglob("bad"))


def test_a_job_is_cancelled(login: Login, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(login.directory)
    folder = login.directory / "run"
    long = ("mnist_cnn", "--training.steps", "1000000", *ENGINE)
    assert job.main(["submit", *WHERE, "--nodes", "1", "--folder", str(folder), *long], login.environ) == 0
    assert job.main(["cancel", str(folder)], login.environ) == 0
    assert "failed (F" in wait(login, folder, capsys)


def test_a_sweep_waits_for_its_turn_in_the_queue(
    login: Login, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(login.directory)
    folder = login.directory / "study"
    words = [*WHERE, "--nodes", "1,2", "--folder", str(folder), "--wait", "--poll-seconds", "0.5", *TRAIN, *ENGINE]
    assert sweep.main(words, login.environ) == 0, capsys.readouterr().out
    assert [read_run(folder / f"n0000{nodes}-r1").header.nodes for nodes in (1, 2)] == [1, 2]
    assert "Efficiency" in capsys.readouterr().out
