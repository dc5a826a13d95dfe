# SPDX-License-Identifier: Apache-2.0
"""`hpc-dl run` follows a script that knows nothing of it."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from hpc_dl import cli
from hpc_dl.runlog.records import read_run
from tests.ranks import clean_environment, run, run_ranks
from tests.ranks import hpc_dl as command

SCRIPT = Path(__file__).with_name("plain_script.py")


def words(folder: Path, kind: str, *arguments: str, options: tuple[str, ...] = ()) -> list[str]:
    given = ["--local-batch", "8", "--folder", str(folder), *options]
    return command("run", *given, "--", sys.executable, str(SCRIPT), kind, *arguments)


def test_a_script_is_followed_from_its_second_step_on(tmp_path: Path) -> None:
    ended = run(words(tmp_path, "alone", "40"))
    assert ended.code == 0, ended.output
    assert "the script has done 40 steps" in ended.output
    log = read_run(tmp_path)
    assert log.end is not None
    assert (log.end.reason, log.end.steps, log.header.name) == ("finished", 39, "plain_script")
    assert (log.header.parameters, log.header.global_batch) == (49, 8)
    assert all(window.loss is None for window in log.windows)
    for phase in ("input", "forward", "backward", "optimizer"):
        assert log.windows[-1].phases[phase].mean > 0


@pytest.mark.parallel
@pytest.mark.parametrize(
    ("kind", "by"),
    [
        ("ddp", "DistributedDataParallel"),
        pytest.param("horovod", "Horovod", marks=pytest.mark.horovod),
    ],
)
def test_ranks_of_the_scripts_own_are_followed(tmp_path: Path, kind: str, by: str) -> None:
    environ = clean_environment(MEETING=str(tmp_path / "meeting"))
    ended = run_ranks(2, words(tmp_path / "log", kind, "40"), environ=environ)
    assert ended.code == 0, ended.output
    assert ended.output.count("the script has done 40 steps") == 2
    log = read_run(tmp_path / "log")
    assert (log.header.world_size, log.header.global_batch, log.header.exchanged_by) == (2, 16, by)
    assert (log.end.reason, log.end.steps) == ("finished", 39)
    assert all(window.phases["exchange"].mean > 0 for window in log.windows)
    reported = run(command("report", str(tmp_path / "log"), "--output", str(tmp_path / "report")))
    assert reported.code == 0, reported.output


def test_it_is_left_in_time(tmp_path: Path) -> None:
    environ = clean_environment(HPC_DL_JOB_END=str(time.time() + 45))
    ended = run(words(tmp_path, "alone", "1000000000", options=("--stop-seconds", "30")), environ=environ)
    assert ended.code == 0, ended.output
    assert "the job is about to end; what the script has written itself is there" in ended.output
    assert read_run(tmp_path).end.reason == "stopped"


def test_a_mistake_of_the_script_is_its_own(tmp_path: Path) -> None:
    ended = run(words(tmp_path, "alone", "40", "20"))
    assert ended.code == 1
    assert "ValueError: a mistake of the script" in ended.output
    assert read_run(tmp_path).end is None


@pytest.mark.parallel
def test_ranks_that_do_not_know_of_each_other_are_refused(tmp_path: Path) -> None:
    ended = run_ranks(2, words(tmp_path, "alone", "40"))
    assert ended.code != 0
    assert "initialised neither torch.distributed nor Horovod" in ended.output


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--", "train.py"], "train.py is no file"),
        (["--global-batch", "8"], "no Python script"),
        (["--", str(SCRIPT)], "how many samples a step takes is not known"),
        (["--global-batch", "8", "--local-batch", "8", "--", str(SCRIPT)], "two sizes of a batch"),
        (["--global-batch", "8", "--", "python9.9", str(SCRIPT)], "it is not there"),
    ],
)
def test_what_cannot_be_run_is_refused(capsys: pytest.CaptureFixture[str], given: list[str], message: str) -> None:
    assert cli.main(["run", *given]) == 2
    assert message in capsys.readouterr().err
