# SPDX-License-Identifier: Apache-2.0
"""`hpc-dl job` and `hpc-dl sweep` against the stand-in: rendered, checked, submitted, watched, cancelled, reported."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from standin.login import Login

pytestmark = pytest.mark.parallel

HPC_DL = [sys.executable, "-m", "hpc_dl.cli"]
MACHINE = ["--machine", "aurora", "--account", "proj", "--ranks-per-node", "1", "--minutes", "10"]
TRAIN = ["mnist_cnn", "--training.steps", "12", "--log.warmup_steps", "4", "--exchange.engine", "torch"]


def test_submit_status_cancel(login: Login) -> None:
    words = [*HPC_DL, "job", "submit", *MACHINE, "--nodes", "2", "--folder", "runs/long"]
    done = login.run(*words, "mnist_cnn", "--training.steps", "1000000", "--exchange.engine", "torch")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == "1.standin-pbs"
    login.wait("1", "R")
    assert "running" in login.run(*HPC_DL, "job", "status", "runs/long").stdout
    assert login.run(*HPC_DL, "job", "cancel", "runs/long").returncode == 0
    assert login.wait("1")["exit_status"] == 271
    assert "failed" in login.run(*HPC_DL, "job", "status", "runs/long").stdout


def test_a_request_pbs_would_refuse_is_refused_before(login: Login) -> None:
    done = login.run(*HPC_DL, "job", "submit", *MACHINE[:2], "--nodes", "2", *TRAIN)
    assert done.returncode == 2
    assert "account" in done.stderr
    assert login.site.jobs() == {}


def test_a_training_longer_than_its_job_is_finished_by_the_next_of_its_chain(login: Login) -> None:
    """The first stops 25 s after its start, before its last step; the second is quick, the third too late."""
    shutil.copy(Path(__file__).parents[1] / "slow_at_first.py", login.directory)
    words = [*HPC_DL, "job", "submit", *MACHINE[:-1], "5", "--force", "--nodes", "2", "--chain", "3"]
    slow = [
        "--task.loss",
        "slow_at_first:loss",
        "--training.steps",
        "60",
        "--log.window_steps",
        "2",
        "--checkpoint.stop_margin_seconds",
        "275",
    ]
    done = login.run(*words, "--folder", "runs/long", "mnist_cnn", *slow, "--exchange.engine", "torch")
    assert done.returncode == 0, done.stderr
    assert [login.wait(name, seconds=120)["exit_status"] for name in ("1", "2", "3")] == [0, 0, 0]
    log = (login.directory / "runs" / "long" / "log.jsonl").read_text().splitlines()
    ends = [json.loads(line) for line in log if line.startswith('{"kind":"end"')]
    assert [end["reason"] for end in ends] == ["stopped", "finished"]
    assert sum(end["steps"] for end in ends) == 60
    assert (login.directory / "runs" / "long" / "report" / "report.html").exists()


@pytest.mark.slow
def test_a_sweep_over_one_and_two_nodes_reports(login: Login) -> None:
    words = [*HPC_DL, "sweep", *MACHINE, "--nodes", "1,2", "--wait", "--poll-seconds", "1", "--folder", "study"]
    done = login.run(*words, *TRAIN, seconds=400)
    assert done.returncode == 0, done.stdout + done.stderr
    # The sweep is over when the runs are; the jobs still write their own reports.
    assert [login.wait(name, seconds=120)["exit_status"] for name in ("1", "2")] == [0, 0]
    headers = [json.loads(log.read_text().splitlines()[0]) for log in (login.directory / "study").rglob("log.jsonl")]
    assert sorted(header["world_size"] for header in headers) == [1, 2]
    assert {Path(path).name for path in (login.directory / "study").rglob("report.html")} == {"report.html"}
    again = login.run(*words, *TRAIN, seconds=400)
    assert again.returncode == 0
    assert len(login.site.jobs()) == 2, "what is there is not run again"
