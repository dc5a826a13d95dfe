# SPDX-License-Identifier: Apache-2.0
"""A command of one's own behind `--` gets what a recipe gets: the script, the checks, the folder, the chain."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from fake_slurm import FakeSlurm

from hpc_dl.cluster import machines
from hpc_dl.commands import job as command
from hpc_dl.errors import HpcDlError
from hpc_dl.jobs.payload import own
from hpc_dl.jobs.request import Request
from hpc_dl.jobs.script import render

HARD = ("it's", 'a "b"', "$HOME `id` $(id)", "; exit 3 #", "two\nlines\t\\", "", "*", "--", "--nodes", "{other}")
COMMAND = ("python", "train.py", *HARD)
WHERE = ("--machine", "perlmutter", "--account", "m1")
WITH_SCHEDULER = [name for name in machines.names() if machines.load(name).scheduler != "none"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "my work").mkdir()
    monkeypatch.chdir(tmp_path / "my work")
    Path("train.py").write_text("")
    return tmp_path / "runs here" / "first"


def submit(slurm: FakeSlurm, folder: Path, *words: str, run: tuple[str, ...] = COMMAND) -> None:
    assert command.main(["submit", *WHERE, "--folder", str(folder), *words, "--", *run], slurm.environ) == 0


def started(script: str, work_folder: Path) -> list[str]:
    """Where a job's launcher is started, and its words, as bash reads the script's first and last block."""
    lines = script.splitlines()
    place = lines[lines.index("# What to train, and where its files go") : lines.index("# Software")]
    launch = lines[lines.index("# Train, then report") : lines.index("end_training $?")]
    given = "source() { :; }; nodes=2 ranks=4 ranks_per_node=2 rendezvous=here:1; PATH=; leave_finished() { :; }\n"
    given += 'tell() { printf "%s\\0" "$PWD" "$@"; }\n'
    given += "".join(f'{name}() {{ tell {name} "$@"; }}\n' for name in ("srun", "mpiexec", "mpirun", "torchrun"))
    code = "\n".join([given, *place, *launch])
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, cwd=work_folder, check=True)
    return done.stdout.split("\0")[:-1]


OWN_MACHINE = "[ranks]\nper_node = 2\n"


@pytest.mark.parametrize("machine", [*WITH_SCHEDULER, *("hydra", "openmpi", "torchrun")])
def test_each_rank_is_given_the_words_as_they_are(machine: str, tmp_path: Path) -> None:
    file = tmp_path / "tulip.toml"
    file.write_text(f'scheduler = "slurm"\nlauncher = "{machine}"\n{OWN_MACHINE}')
    record = machines.load(machine if machine in WITH_SCHEDULER else str(file))
    folder = tmp_path / "it's here"
    folder.mkdir()
    request = Request(payload=own(COMMAND), work_folder=str(folder), run_folder="/r u n", chain=2)
    where, *words = started(render(request, record), tmp_path)
    assert where == str(folder)
    assert words[-len(COMMAND) - 2 :] == ["bash", "/r u n/launch/rank.sh", *COMMAND]


@pytest.mark.parametrize("machine", WITH_SCHEDULER)
def test_the_script_is_bash_and_checks_the_program_instead_of_our_trainers_needs(
    machine: str, capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    assert command.main(["show", "--machine", machine, "--account", "p", "--", *COMMAND], {}) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert subprocess.run(["bash", "-n"], input=shown.out, capture_output=True, text=True).stderr == ""
    lines = shown.out.splitlines()
    assert 'check_program "${train[0]}"' in lines
    assert "check_python" not in lines


def test_a_submitted_command_keeps_its_script_and_no_settings(
    slurm: FakeSlurm, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    submit(slurm, folder, "--nodes", "4", "--chain", "2")
    assert capsys.readouterr().out == f"41 42  {folder}\n"
    script = (folder / "job.slurm").read_text()
    assert "#SBATCH --job-name=train" in script
    assert "leave_finished" in script.splitlines()
    assert "resume" not in script, "the command goes on with what its folder holds, or does not: it is told nothing"
    assert not (folder / "settings.toml").exists()
    assert "hpc-dl job submit" in (folder / "command.txt").read_text()
    (folder / "log.jsonl").write_text("")
    submit(slurm, folder)
    assert command.main(["status", str(folder)], slurm.environ) == 0


def test_the_folder_is_named_after_what_runs(
    slurm: FakeSlurm, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, name in ((("python", "-u", "train.py"), "train"), (("env", "A=1", "python"), "env")):
        assert command.main(["submit", *WHERE, "--", *words], slurm.environ) == 0
        assert Path(capsys.readouterr().out.strip()).name.startswith(f"{name}-perlmutter-2nodes-")


def test_numbers_of_the_job_stand_in_for_their_names(slurm: FakeSlurm, folder: Path) -> None:
    run = ("python", "train.py", "--batch", "{world_size}", "--of={nodes}x{nodes}", "{node}", "{{nodes}}")
    submit(slurm, folder, "--nodes", "4", "--ranks-per-node", "2", run=run)
    words = started((folder / "job.slurm").read_text(), folder)[-5:]
    assert words == ["--batch", "8", "--of=4x4", "{node}", "{4}"]


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (("--nodes", "2000"), "perlmutter has 1792 nodes"),
        (("--queue", "debug", "--minutes", "40"), "debug takes 1 to 8 nodes for 1 to 30 minutes"),
        (("--cpu-bind", "depth"), "bindings: "),
        (("--chain", "7", "--queue", "debug"), "debug takes 5 jobs of a user"),
    ],
)
def test_the_machines_rules_hold(slurm: FakeSlurm, folder: Path, options: tuple[str, ...], part: str) -> None:
    with pytest.raises(HpcDlError) as refused:
        submit(slurm, folder, *options)
    assert part in str(refused.value)
    assert slurm.submitted() == []


def test_words_that_look_like_a_setting_of_ours_are_the_commands_own(slurm: FakeSlurm, folder: Path) -> None:
    submit(slurm, folder, "--dry-run", run=("python", "train.py", "--exchange.engine", "horovod", "--training.stps"))


@pytest.mark.parametrize(
    ("run", "missing"),
    [
        (("python", "trained.py"), "trained.py"),
        (("python3.11", "-u", "-X", "dev", "sub/train.py"), "sub/train.py"),
        (("./train",), "./train"),
        (("/no/such/python", "train.py"), "/no/such/python"),
        (("python", "train-{nodes}.py"), "train-2.py"),
    ],
)
def test_a_file_that_is_not_there_is_refused(
    slurm: FakeSlurm, folder: Path, run: tuple[str, ...], missing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(HpcDlError) as refused:
        submit(slurm, folder, run=run)
    assert f"there is no {missing} in {Path.cwd()}" in str(refused.value)
    assert slurm.submitted() == []
    submit(slurm, folder, "--force", run=run)
    assert f"there is no {missing}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "run",
    [
        ("python", "-m", "train", "none.py"),
        ("python", "-c", "print()", "none.py"),
        ("julia", "none.jl"),
        ("hpc-dl", "bench"),
        ("env", "A=1", "python", "none.py"),
        ("python",),
    ],
)
def test_what_cannot_be_known_here_is_left_to_the_job(slurm: FakeSlurm, folder: Path, run: tuple[str, ...]) -> None:
    submit(slurm, folder, run=run)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("mnist_cnn", "--", "python", "train.py"), "a training and a command"),
        (("--",), "does not say what to run"),
        (("--", ""), "does not say what to run"),
        (("--", "--batch", "4"), "--batch is an option, not a program"),
        (("--", "A=1", "python", "train.py"), "put env in front: -- env A=1"),
        (("python", "train.py", "--batch", "4"), "put -- in front: -- python train.py --batch 4"),
        (("train.py",), "put -- in front"),
    ],
)
def test_a_command_that_is_none(words: tuple[str, ...], part: str, folder: Path) -> None:
    with pytest.raises(HpcDlError) as refused:
        command.main(["submit", *WHERE, *words], {})
    assert part in str(refused.value)
