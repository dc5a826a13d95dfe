# SPDX-License-Identifier: Apache-2.0
"""`hpc-dl job` and `hpc-dl sweep` against the PBS stand-in: what they write, PBS takes; what PBS says, they read."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from standin.login import Login
from standin.site import Queue

from hpc_dl.commands import doctor, job, sweep
from hpc_dl.runlog.records import read_parts, read_run

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


HARD = ("it's", 'a "b" $HOME', "; touch bad", "`id` $(touch bad)", "two\nlines\n#PBS -q evil", "\\", "*", "")


def test_a_script_of_ones_own_is_chained_and_finished(
    login: Login, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first stops 25 s after its start, before its last step; the second is quick, the third too late."""
    monkeypatch.chdir(login.directory)
    shutil.copy(Path(__file__).parents[1] / "own_script.py", "train.py")
    words = ["submit", *WHERE, "--nodes", "2", "--chain", "3", "--force", "--folder", "run", "--"]
    run = ["python", "train.py", "--engine", "torch", "--slow", "--steps", "60", "--stop-seconds", "335"]
    assert job.main([*words, *run], login.environ) == 0
    lines = wait(login, Path("run"), capsys).splitlines()
    output = "\n".join(path.read_text() for path in Path("run").glob("*.o*"))
    assert ["finished (F, exit status 0)" in line for line in lines] == [True] * 3, output
    ends = [part.end for part in read_parts(Path("run"))[0] if part.end is not None]
    assert [end.reason for end in ends] == ["stopped", "finished"]
    assert sum(end.steps for end in ends) == 60
    assert Path("run", "report", "report.html").exists()
    assert output.count("finished already") == 1


def test_a_script_of_ones_own_over_three_sizes_is_given_its_words(
    make_site: Callable[..., Login], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    queues = {"debug": Queue((1, 2)), "debug-scaling": Queue((2, 4))}
    login = make_site(nodes=tuple(f"n{number}.hsn.cm.standin" for number in range(1, 5)), queues=queues)
    monkeypatch.chdir(login.directory)
    shutil.copy(Path(__file__).parents[1] / "own_script.py", "train.py")
    words = [*WHERE, "--nodes", "1,2,4", "--folder", "study", "--wait", "--poll-seconds", "0.5", "--", "python"]
    run = ["train.py", "--engine", "torch", "--batch", "{world_size}", *HARD]
    assert sweep.main([*words, *run], login.environ) == 0, capsys.readouterr().out
    assert "Efficiency" in capsys.readouterr().out
    for nodes in (1, 2, 4):
        folder = Path("study", f"n0000{nodes}-r1")
        header = read_run(folder).header
        assert (header.world_size, header.nodes, header.global_batch) == (nodes, nodes, nodes)
        given = [json.loads(path.read_text()) for path in folder.glob("rank*.json")]
        expected = ["train.py", "--engine", "torch", "--batch", str(nodes), *HARD]
        assert given == [[str(login.directory), *expected]] * nodes
    assert not list(login.directory.rglob("bad"))


def test_a_program_that_knows_nothing_of_us_is_run(
    login: Login, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(login.directory)
    words = ["submit", *WHERE, "--nodes", "2", "--folder", "run", "--", "bash", "-c", 'echo "ran $0 in $PWD"', "a  b"]
    assert job.main(words, login.environ) == 0
    assert "finished (F, exit status 0)" in wait(login, Path("run"), capsys)
    output = next(Path("run").glob("*.o*"))
    assert output.read_text().count(f"ran a  b in {login.directory}\n") == 2
    assert "no report: the ranks left no log.jsonl" in output.read_text()
    assert doctor.main([str(output)], login.environ) == 0
