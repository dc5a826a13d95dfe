# SPDX-License-Identifier: Apache-2.0
"""`hpc-dl job` and `hpc-dl sweep` against a real Slurm."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest
from slurm_site import Site

from hpc_dl.commands import doctor, job, sweep
from hpc_dl.jobs.submit import submitted
from hpc_dl.runlog.records import read_parts, read_run

pytestmark = pytest.mark.slurm
WHERE = ("--machine", "perlmutter", "--account", "m1234", "--minutes", "6")
TRAIN = ("mnist_cnn", "--training.steps", "8", "--log.window_steps", "2", "--log.warmup_steps", "2")


def submit(site: Site, folder: Path, *words: str) -> None:
    environ = {**site.bed.environ, **site.environ}
    assert job.main(["submit", *WHERE, "--folder", str(folder), *words], environ) == 0


def wait(site: Site, folder: Path, capsys: pytest.CaptureFixture[str], seconds: float = 60) -> str:
    """What `hpc-dl job status` says once the job is over."""
    end = time.monotonic() + seconds
    while True:
        capsys.readouterr()
        assert job.main(["status", str(folder)], {**site.bed.environ, **site.environ}) == 0
        line = capsys.readouterr().out
        if " queued " not in line and " running " not in line:
            return line
        assert time.monotonic() < end, line
        time.sleep(0.5)


def test_hostile_texts_reach_the_ranks_as_they_are(quick: Site, capsys: pytest.CaptureFixture[str]) -> None:
    folder = quick.folder / 'it\'s a $(touch bad); `folder` "here"'
    name = 'a\'b "c" $(touch bad) ; x\n#SBATCH --qos=evil\n'
    submit(quick, folder, "--one-device", "mnist_cnn", "--name", name)
    line = wait(quick, folder, capsys)
    log = next(folder.glob("*.out")).read_text()
    assert "finished (COMPLETED" in line, log
    told = quick.told()
    assert [report["words"] for report in told] == [["mnist_cnn", "--name", name]] * 8
    assert {report["environ"]["HPC_DL_RUN_FOLDER"] for report in told} == {str(folder)}
    assert [report["environ"]["CUDA_VISIBLE_DEVICES"] for report in told] == ["3", "2", "1", "0"] * 2
    assert not list(quick.folder.rglob("bad"))


def test_a_job_is_cancelled(quick: Site, capsys: pytest.CaptureFixture[str]) -> None:
    folder = quick.folder / "run"
    quick.environ["STAND_IN_SECONDS"] = "60"
    submit(quick, folder, "--nodes", "1", "mnist_cnn")
    environ = {**quick.bed.environ, **quick.environ}
    assert job.main(["cancel", str(folder)], environ) == 0
    assert "failed (CANCELLED" in wait(quick, folder, capsys)


def test_a_training_longer_than_its_job_is_finished_by_the_next_of_its_chain(
    site: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first stops 25 s after its start, before its last step; the second is quick, the third too late."""
    monkeypatch.chdir(site.folder)
    shutil.copy(Path(__file__).parents[1] / "slow_at_first.py", site.folder)
    folder, environ = site.folder / "run", {**site.bed.environ, **site.environ}
    slow = (
        "mnist_cnn",
        "--task.loss",
        "slow_at_first:loss",
        "--training.steps",
        "60",
        "--log.window_steps",
        "2",
        "--checkpoint.stop_margin_seconds",
        "155",
    )
    words = ("--account", "m1234", "--minutes", "3", "--nodes", "1", "--ranks-per-node", "2", "--chain", "3")
    given = ["submit", "--machine", "perlmutter", *words, "--folder", str(folder), *slow]
    assert job.main(given, environ) == 0
    lines = wait(site, folder, capsys, seconds=240).splitlines()
    assert [" finished (COMPLETED" in line for line in lines] == [True] * 3, lines
    parts, broken = read_parts(folder)
    assert not broken
    ends = [part.end for part in parts if part.end is not None]
    assert [end.reason for end in ends] == ["stopped", "finished"]
    assert sum(end.steps for end in ends) == 60
    assert [part.header.job_id for part in parts] == [each.job_id for each in submitted(folder)[:2]]
    assert (folder / "report" / "report.html").exists()
    output = "".join(path.read_text() for path in folder.glob("*.out"))
    assert "stopped before its end, with a checkpoint" in output
    assert output.count("finished already") == 1


def test_a_sweep_over_three_sizes_with_one_command(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    folder = site.folder / "study"
    words = [
        *WHERE,
        "--nodes",
        "1,2,4",
        "--ranks-per-node",
        "1",
        "--folder",
        str(folder),
        "--wait",
        "--poll-seconds",
        "1",
    ]
    environ = {**site.bed.environ, **site.environ}
    assert sweep.main([*words, *TRAIN], environ) == 0, capsys.readouterr().out
    runs = {nodes: read_run(folder / f"n0000{nodes}-r1") for nodes in (1, 2, 4)}
    assert {nodes: (run.header.world_size, run.header.nodes) for nodes, run in runs.items()} == {
        n: (n, n) for n in (1, 2, 4)
    }
    assert "Efficiency" in capsys.readouterr().out
    assert (folder / "report" / "report.html").exists()


HARD = ("it's", 'a "b" $HOME', "; touch bad", "`id` $(touch bad)", "two\nlines\n#SBATCH -q evil", "\\", "*", "")


def test_a_script_of_ones_own_is_chained_and_finished(
    site: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first stops 25 s after its start, before its last step; the second is quick, the third too late."""
    monkeypatch.chdir(site.folder)
    shutil.copy(Path(__file__).parents[1] / "own_script.py", "train.py")
    folder, environ = site.folder / "it's a run", {**site.bed.environ, **site.environ}
    where = ("--account", "m1234", "--minutes", "3", "--nodes", "1", "--ranks-per-node", "2", "--chain", "3")
    run = ("python", "train.py", "--slow", "--steps", "60", "--stop-seconds", "155")
    assert job.main(["submit", "--machine", "perlmutter", *where, "--folder", str(folder), "--", *run], environ) == 0
    lines = wait(site, folder, capsys, seconds=240).splitlines()
    output = "".join(path.read_text() for path in folder.glob("*.out"))
    assert [" finished (COMPLETED" in line for line in lines] == [True] * 3, output
    parts, _ = read_parts(folder)
    ends = [part.end for part in parts if part.end is not None]
    assert [end.reason for end in ends] == ["stopped", "finished"]
    assert sum(end.steps for end in ends) == 60
    assert [part.header.job_id for part in parts] == [each.job_id for each in submitted(folder)[:2]]
    assert (folder / "report" / "report.html").exists()
    assert output.count("finished already") == 1
    assert doctor.main([str(next(folder.glob("*.out")))], environ) == 0


def test_a_script_of_ones_own_over_three_sizes_is_given_its_words(
    site: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(site.folder)
    shutil.copy(Path(__file__).parents[1] / "own_script.py", "train.py")
    words = [*WHERE, "--nodes", "1,2,4", "--ranks-per-node", "1", "--folder", "study", "--wait", "--poll-seconds", "1"]
    run = ("train.py", "--batch", "{world_size}", *HARD)
    assert sweep.main([*words, "--", "python", *run], {**site.bed.environ, **site.environ}) == 0
    assert "Efficiency" in capsys.readouterr().out
    assert (site.folder / "study" / "report" / "report.html").exists()
    for nodes in (1, 2, 4):
        folder = site.folder / "study" / f"n0000{nodes}-r1"
        header = read_run(folder).header
        assert (header.world_size, header.nodes, header.global_batch) == (nodes, nodes, nodes)
        given = [json.loads(path.read_text()) for path in folder.glob("rank*.json")]
        assert given == [[str(site.folder), "train.py", "--batch", str(nodes), *HARD]] * nodes
    assert not list(site.folder.rglob("bad"))
