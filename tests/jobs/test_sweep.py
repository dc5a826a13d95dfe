# SPDX-License-Identifier: Apache-2.0
"""A scaling study in one command: here, and as jobs; given again it starts what is missing, and nothing else."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from fake_slurm import FakeSlurm

from hpc_dl.commands import sweep as command
from hpc_dl.errors import HpcDlError
from hpc_dl.jobs import sweep
from hpc_dl.runlog.records import End, Header, read_run, to_line

QUICK = ("mnist_cnn", "--training.steps", "8", "--log.window_steps", "2", "--log.warmup_steps", "2")
AS_JOBS = ("--machine", "perlmutter", "--account", "m1", "--minutes", "20")
HEADER = Header(
    **dict.fromkeys(("run_id", "started", "name", "model", "engine", "engine_why", "backend", "device"), "x"),
    **dict.fromkeys(("device_why", "precision", "launcher", "job_id", "git_revision", "batch_rule"), "x"),
    **dict.fromkeys(("parameters", "gradient_bytes", "world_size", "nodes", "local_batch", "global_batch"), 1),
    ranks_per_node=(1, 1),
    hosts=("x",),
    warmup_steps=0,
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "study"


def jobs(slurm: FakeSlurm, folder: Path, *words: str, train: tuple[str, ...] = QUICK) -> int:
    return command.main([*AS_JOBS, "--folder", str(folder), *words, *train], slurm.environ)


def names(slurm: FakeSlurm) -> list[str]:
    return [Path(line.split()[0]).name for line in slurm.submitted()]


def threads(folder: Path, size: int) -> set[int]:
    """CPU threads of the ranks of a run."""
    groups = read_run(folder / f"n{size:05d}-r1").header.binding["groups"]
    return {rank["threads"] for group in groups for rank in group["ranks"]}


def finish(folder: Path, reason: str = "finished") -> None:
    """A log as a run leaves it."""
    end = End(reason=reason, steps=1, samples=1, seconds=1.0, startup_seconds=1.0, first_step_seconds=1.0)
    lines = [to_line(HEADER), *([to_line(end)] if reason else [])]
    (folder / "log.jsonl").write_text("".join(f"{line}\n" for line in lines))


def test_one_command_submits_every_size_and_repeat(slurm: FakeSlurm, folder: Path) -> None:
    assert jobs(slurm, folder, "--nodes", "16,32", "--repeats", "2") == 0
    assert names(slurm) == ["n00016-r1", "n00032-r1", "n00016-r2", "n00032-r2"]
    assert "#SBATCH --nodes=32" in (folder / "n00032-r2" / "job.slurm").read_text()


def test_only_what_is_missing_is_submitted_again(
    slurm: FakeSlurm, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert jobs(slurm, folder, "--nodes", "16,32,64,128") == 0
    finish(folder / "n00016-r1")
    finish(folder / "n00032-r1", reason="")
    slurm.set("42", "TIMEOUT")
    slurm.set("43", "RUNNING")
    finish(folder / "n00128-r1", reason="failed")
    slurm.forget("44")
    assert jobs(slurm, folder, "--nodes", "16,32,64,128") == 0
    assert names(slurm)[4:] == ["n00032-r1", "n00128-r1"]
    assert (folder / "n00032-r1" / "attempt-1.jsonl").exists()
    assert not (folder / "n00032-r1" / "log.jsonl").exists()
    assert "3 of 4 runs are not finished" in capsys.readouterr().out


def test_sizes_and_repeats_may_be_added_but_not_another_training(slurm: FakeSlurm, folder: Path) -> None:
    assert jobs(slurm, folder, "--nodes", "16") == 0
    assert jobs(slurm, folder, "--nodes", "16,32", "--repeats", "2") == 0
    assert names(slurm) == ["n00016-r1", "n00032-r1", "n00016-r2", "n00032-r2"]
    with pytest.raises(HpcDlError, match="name another --folder"):
        jobs(slurm, folder, "--nodes", "16", train=(*QUICK, "--training.seed", "3"))


def test_each_size_of_a_command_has_its_own_numbers(slurm: FakeSlurm, folder: Path) -> None:
    Path("train.py").write_text("")
    train = ("--", "python", "train.py", "--batch", "{world_size}", "--ranks-per-node", "1")
    assert jobs(slurm, folder, "--nodes", "16,32", train=train) == 0
    for nodes in (16, 32):
        script = (folder / f"n000{nodes}-r1" / "job.slurm").read_text()
        assert f"train=(python train.py --batch {4 * nodes} --ranks-per-node 1)" in script
        assert "#SBATCH --job-name=train" in script
    slurm.set("41", "COMPLETED")
    assert jobs(slurm, folder, "--nodes", "16,32", train=train) == 0, "other sizes are in the same study"
    assert names(slurm) == ["n00016-r1", "n00032-r1", "n00016-r1"]
    with pytest.raises(HpcDlError, match=r"there is no none\.py"):
        jobs(slurm, folder / "other", "--nodes", "64", train=("--", "python", "none.py"))
    assert not (folder / "other").exists()


def test_a_queues_limit_on_jobs_holds_back(slurm: FakeSlurm, folder: Path) -> None:
    assert jobs(slurm, folder, "--nodes", "1,2,3,4,5,6,7") == 0
    assert len(names(slurm)) == 5  # debug takes 5 jobs of a user
    slurm.set("41", "FAILED")
    finish(folder / "n00001-r1")
    assert jobs(slurm, folder, "--nodes", "1,2,3,4,5,6,7") == 0
    assert names(slurm)[5:] == ["n00006-r1"]


def test_a_size_that_breaks_a_rule_keeps_all_from_starting(slurm: FakeSlurm, folder: Path) -> None:
    with pytest.raises(HpcDlError, match="perlmutter has 1792 nodes"):
        jobs(slurm, folder, "--nodes", "16,2000")
    assert names(slurm) == []


def test_a_dry_run_starts_nothing(slurm: FakeSlurm, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert jobs(slurm, folder, "--nodes", "16,32", "--dry-run") == 0
    assert capsys.readouterr().out.count("missing   sbatch --parsable job.slurm") == 2
    assert not folder.exists()


@pytest.mark.parametrize("words", [("--nodes", "1,x"), ("--nodes", "0"), ("--nodes", "1", "--repeats", "0")])
def test_numbers_that_are_none(words: tuple[str, ...], folder: Path) -> None:
    with pytest.raises(HpcDlError):
        command.main(["--local", "--folder", str(folder), *words, *QUICK], {})


def test_each_size_is_run_once_before_any_is_run_twice(folder: Path) -> None:
    order = [(point.nodes, point.repeat) for point in sweep.plan(folder, [4, 1, 2, 2], 2)]
    assert order == [(1, 1), (2, 1), (4, 1), (1, 2), (2, 2), (4, 2)]


@pytest.mark.parallel
def test_a_local_sweep_over_mpiexec_reports_and_repeats_only_a_broken_run(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    words = ["--local", "--machine", "local", "--nodes", "1,2", "--minutes", "5", "--folder", str(folder), *QUICK]
    assert command.main(words, environ) == 0
    assert [read_run(folder / f"n0000{size}-r1").header.world_size for size in (1, 2)] == [1, 2]
    assert threads(folder, 1) == threads(folder, 2), "the sizes of a sweep differ in ranks only"
    assert "Efficiency" in capsys.readouterr().out
    assert (folder / "report" / "report.html").exists()
    untouched = (folder / "n00001-r1" / "log.jsonl").stat().st_mtime_ns
    log = folder / "n00002-r1" / "log.jsonl"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:-1]))  # as if the job had been killed
    assert command.main(words, environ) == 0
    assert (folder / "n00001-r1" / "log.jsonl").stat().st_mtime_ns == untouched
    assert read_run(folder / "n00002-r1").end is not None
    assert (folder / "n00002-r1" / "attempt-1.jsonl").exists()


OWN = str(Path(__file__).parents[1] / "own_script.py")
HARD = ("it's", 'a "b"', "$HOME `id` $(id)", "; exit 3 #", "two\nlines\t\\", "*", "")


@pytest.mark.parallel
def test_a_local_sweep_of_a_script_of_ones_own(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--local", "--machine", "local", "--nodes", "1,2", "--minutes", "5", "--folder", str(folder), "--"]
    run = ["python", OWN, "--batch", "{world_size}", *HARD]
    assert command.main([*words, *run], dict(os.environ)) == 0, capsys.readouterr().out
    for size in (1, 2):
        log = read_run(folder / f"n0000{size}-r1")
        assert (log.header.world_size, log.header.global_batch) == (size, size)
        given = [json.loads(path.read_text()) for path in (folder / f"n0000{size}-r1").glob("rank*.json")]
        assert given == [[str(Path.cwd()), OWN, "--batch", str(size), *HARD]] * size
    assert threads(folder, 1) == threads(folder, 2)
    assert "Efficiency" in capsys.readouterr().out
    with pytest.raises(HpcDlError, match="name another --folder"):
        command.main([*words, *run, "more"], dict(os.environ))


@pytest.mark.parallel
def test_a_script_that_leaves_no_log_is_run_and_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--local", "--machine", "local", "--nodes", "1", "--folder", str(folder), "--", "python"]
    assert command.main([*words, "-c", "print('ran')"], {"PATH": os.environ["PATH"]}) == 1
    assert "ran" in (folder / "n00001-r1" / "output.log").read_text()
    assert "n00001-r1  failed    it left no log.jsonl" in capsys.readouterr().out
    with pytest.raises(HpcDlError, match=r"there is no none\.py in"):
        command.main([*words, "none.py"], dict(os.environ))


@pytest.mark.parallel
def test_a_local_run_that_fails_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = ("mnist_cnn", "--training.steps", "2", "--data.source", "no.such:thing")
    assert command.main(["--local", "--nodes", "1", "--folder", str(folder), *train], dict(os.environ)) == 1
    assert "n00001-r1 ended with status" in capsys.readouterr().out
    assert "no.such" in (folder / "n00001-r1" / "output.log").read_text()
