# SPDX-License-Identifier: Apache-2.0
"""From the command to the queue and back: what is written, what is run, what is said."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from fake_slurm import FakeSlurm

from hpc_dl import arguments
from hpc_dl.commands import job as command
from hpc_dl.commands.train import read_settings
from hpc_dl.errors import HpcDlError
from hpc_dl.settings import Settings

TRAIN = ("mnist_cnn", "--training.steps", "7", "--name", "it's; $(touch x)\n#SBATCH -q evil")
WHERE = ("--machine", "perlmutter", "--account", "m1")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "my work").mkdir()
    monkeypatch.chdir(tmp_path / "my work")
    return tmp_path / "runs here" / "first"


def submit(slurm: FakeSlurm, folder: Path, *words: str) -> None:
    assert command.main(["submit", *WHERE, "--folder", str(folder), *words, *TRAIN], slurm.environ) == 0


def test_a_submitted_run_keeps_script_settings_and_command(
    slurm: FakeSlurm, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    submit(slurm, folder, "--nodes", "4", "--minutes", "20")
    assert capsys.readouterr().out == f"41  {folder}\n"
    assert slurm.submitted() == [f"{folder} --parsable job.slurm"]
    assert json.loads((folder / "job.json").read_text())["job_ids"] == ["41"]
    kept = arguments.from_mapping(Settings(), arguments.read_toml(folder / "settings.toml"), "kept")
    assert kept == read_settings(TRAIN[0], TRAIN[1:])
    assert "--nodes 4 --minutes 20" in (folder / "command.txt").read_text().replace(" \\\n    ", " ")
    assert sorted(path.name for path in (folder / "launch").iterdir()) == ["job.sh", "perlmutter.sh", "rank.sh"]


def test_the_script_enters_the_users_folder_and_trains_the_users_words(slurm: FakeSlurm, folder: Path) -> None:
    submit(slurm, folder)
    lines = (folder / "job.slurm").read_text().splitlines()
    start, end = lines.index("# What to train, and where its files go"), lines.index("# Software")
    show = 'printf "%s\\0" "$PWD" "$HPC_DL_RUN_FOLDER" "$launch" "${train[@]}"'
    done = subprocess.run(["bash", "-c", "\n".join([*lines[start:end], show])], capture_output=True, text=True, cwd="/")
    assert done.stdout.split("\0")[:-1] == [str(Path.cwd()), str(folder), f"{folder}/launch", *TRAIN]
    assert not (Path.cwd() / "x").exists()
    assert [line for line in lines if "evil" in line and line.startswith("#")] == []


def test_a_chain_is_so_many_jobs_each_after_the_one_before(
    slurm: FakeSlurm, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    submit(slurm, folder, "--chain", "3")
    assert capsys.readouterr().out == f"41 42 43  {folder}\n"
    assert slurm.submitted() == [
        f"{folder} --parsable job.slurm",
        f"{folder} --parsable --dependency=afterany:41 job.slurm",
        f"{folder} --parsable --dependency=afterany:42 job.slurm",
    ]
    lines = (folder / "job.slurm").read_text().splitlines()
    assert "--checkpoint.resume auto" in lines[-2]
    assert "leave_finished" in lines
    assert lines[-1] == "end_training $?", "the next job of the chain goes on, not this one"
    slurm.set("41", "COMPLETED")
    assert command.main(["cancel", str(folder)], slurm.environ) == 0
    assert capsys.readouterr().out == "43  cancelled\n42  cancelled\n41  over already (COMPLETED)\n"


def test_a_chain_that_is_refused_in_its_middle_can_be_cancelled(
    slurm: FakeSlurm, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slurm.refuse("sbatch: error: Job violates accounting/QOS policy", after=1)
    with pytest.raises(HpcDlError, match="QOS policy"):
        submit(slurm, folder, "--chain", "3")
    assert command.main(["cancel", str(folder)], slurm.environ) == 0
    assert capsys.readouterr().out == "41  cancelled\n"


def test_a_job_that_may_start_again_asks_for_it_when_it_stops_in_time(slurm: FakeSlurm, folder: Path) -> None:
    submit(slurm, folder, "--rerun")
    assert (folder / "job.slurm").read_text().endswith('end_training $? scontrol requeue "$SLURM_JOB_ID"\n')


def test_a_stopped_run_is_submitted_again_into_its_folder(slurm: FakeSlurm, folder: Path) -> None:
    submit(slurm, folder)
    (folder / "log.jsonl").write_text("")
    with pytest.raises(HpcDlError, match="holds a log"):
        submit(slurm, folder)
    words = ["submit", *WHERE, "--folder", str(folder), *TRAIN, "--checkpoint.resume", "auto"]
    assert command.main(words, slurm.environ) == 0


def test_status_and_cancel(slurm: FakeSlurm, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    submit(slurm, folder)
    for state, words in (("PENDING", "queued (PENDING"), ("RUNNING", "running"), ("TIMEOUT", "failed (TIMEOUT")):
        slurm.set("41", state)
        assert command.main(["status", str(folder)], slurm.environ) == 0
        assert words in capsys.readouterr().out.splitlines()[-1]
    slurm.set("41", "RUNNING")
    assert command.main(["cancel", str(folder)], slurm.environ) == 0
    assert command.main(["status", str(folder)], slurm.environ) == 0
    assert "failed (CANCELLED" in capsys.readouterr().out
    slurm.forget("41")
    assert command.main(["status", str(folder)], slurm.environ) == 0
    assert "forgotten" in capsys.readouterr().out


def test_a_refusal_of_the_scheduler_is_quoted(slurm: FakeSlurm, folder: Path) -> None:
    slurm.refuse("sbatch: error: Batch job submission failed: Invalid account")
    with pytest.raises(HpcDlError, match="Invalid account"):
        submit(slurm, folder)
    assert not (folder / "job.json").exists()


def test_a_login_node_without_the_scheduler(folder: Path) -> None:
    with pytest.raises(HpcDlError, match="run this on a login node"):
        command.main(["submit", *WHERE, "--folder", str(folder), *TRAIN], {"PATH": "/nowhere"})


def test_a_dry_run_writes_nothing(slurm: FakeSlurm, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    submit(slurm, folder, "--dry-run")
    shown = capsys.readouterr().out
    assert "#SBATCH --account=m1" in shown
    assert "sbatch --parsable job.slurm" in shown
    assert not folder.exists()
    assert slurm.submitted() == []


def test_what_is_shown_is_what_is_submitted(slurm: FakeSlurm, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    submit(slurm, folder, "--dry-run", "--nodes", "3")
    shown = capsys.readouterr().out
    submit(slurm, folder, "--nodes", "3")
    assert (folder / "job.slurm").read_text() in shown


def test_a_run_folder_is_not_used_twice(slurm: FakeSlurm, folder: Path) -> None:
    submit(slurm, folder)
    (folder / "log.jsonl").write_text("")
    with pytest.raises(HpcDlError, match=r"holds a log\.jsonl already"):
        submit(slurm, folder)


def test_a_folder_that_no_job_was_submitted_from(tmp_path: Path) -> None:
    with pytest.raises(HpcDlError, match=r"no readable job\.json"):
        command.main(["status", str(tmp_path)], {})


def test_own_cluster_is_kept_with_the_run(slurm: FakeSlurm, tmp_path: Path, folder: Path) -> None:
    file = tmp_path / "tulip.toml"
    file.write_text('scheduler = "slurm"\nlauncher = "srun"\n[ranks]\nper_node = 2\n')
    words = ["submit", "--machine", str(file), "--folder", str(folder), *TRAIN]
    assert command.main(words, slurm.environ) == 0
    assert (folder / "machine.toml").read_text() == file.read_text()
    assert f"HPC_DL_MACHINE='{folder}/machine.toml'" in (folder / "job.slurm").read_text()


def test_a_machine_without_a_scheduler_takes_no_jobs() -> None:
    with pytest.raises(HpcDlError, match="it has no scheduler"):
        command.main(["show", "--machine", "local", *TRAIN], {})
