# SPDX-License-Identifier: Apache-2.0
"""launch/job.sh and launch/rank.sh by themselves: what is right passes, what is wrong is stopped by a sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

LAUNCH = Path(__file__).resolve().parents[2] / "launch"
MODULE = """
module() {
    case $1 in
        load) [[ $2 == missing ]] && return 1
              [[ $2 == silent* ]] && return 0
              export LOADEDMODULES=$LOADEDMODULES:$2/1.2 ;;
        is-loaded) return 1 ;;
    esac
}
"""


def bash(code: str, **environ: str) -> tuple[int, str]:
    """Exit status and all output of a piece of a job script."""
    given = {"PATH": os.environ["PATH"], **environ}
    done = subprocess.run(
        ["bash", "-c", f"source '{LAUNCH}/job.sh'\n{code}"], env=given, capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("load_modules pytorch", "there is no module command here: the script's first line must be #!/bin/bash -l"),
        (f"{MODULE} load_modules ok missing", "module load missing failed: module avail missing shows what there is"),
        (f"{MODULE} load_modules silent/2.0", "module load silent/2.0 loaded nothing: module avail silent"),
        ("activate_environment /nowhere", "there is no Python environment in /nowhere"),
        ("PATH=; check_python", "there is no python on PATH"),
        (
            "check_program no-such",
            "there is no program no-such here: name its path, or the modules or HPC_DL_VENV that",
        ),
        ("check_program say", "there is no program say here"),  # a function of this shell is none a rank could run
        ("check_nodes 3 a b", "the node list has 2 hosts, the scheduler granted 3: a b"),
        ("check_nodes ''", "the scheduler gave no list of nodes"),
        ("SLURMD_NODENAME=nid000007; check_devices 4 3 'nid0*'", "node nid000007 shows 3 devices, 4 are needed: leave"),
        ("pbs_hosts", "PBS gave no node file: PBS_NODEFILE is ''"),
    ],
)
def test_what_is_wrong_stops_the_job_by_a_sentence(code: str, sentence: str) -> None:
    status, output = bash(f"{code}; echo went on")
    assert status == 1
    assert f"hpc_dl job: {sentence}" in output
    assert "went on" not in output


def test_a_python_without_torch_is_named(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "$@"\n')
    python.chmod(0o755)
    status, output = bash("check_python", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert status == 1
    assert f"this Python has no torch and no hpc_dl: {python}" in output


@pytest.mark.parametrize(
    ("code", "output"),
    [
        (f"{MODULE} load_modules ok other/3 && echo $LOADEDMODULES", ":ok/1.2:other/3/1.2"),
        ("check_python", f"hpc_dl job: Python is {Path(sys.executable).parent}/python"),
        ("activate_environment '' && echo none", "none"),
        ("check_program bash", "hpc_dl job: the ranks run /"),
        ("check_nodes 2 a b", "hpc_dl job: 2 nodes: a b"),
        ("check_nodes '' a b c", "hpc_dl job: 3 nodes: a b c"),
        ("check_nodes 9 {1..9}", "hpc_dl job: 9 nodes: 1 2 3 4 5 6 7 8 ..."),
        ("SLURMD_NODENAME=nid000007; check_devices 4 4 'nid0*'; echo fine", "fine"),
        ("SLURMD_NODENAME=laptop; check_devices 4 0 'nid0*'", "this is a rehearsal"),
        ("default A 1; A=2; default A 3; default B 'x y'; echo $A $B", "2 x y"),
        ("port_of_job 1234567; port_of_job '012[].server'", "24567\n10012"),
        ("count_files '/dev/nul*'; count_files '/dev/no_such_*'", "1\n0"),
        ("address_of_this_node .no.such.domain", os.uname().nodename),
    ],
)
def test_what_is_right_passes(code: str, output: str) -> None:
    status, found = bash(code)
    assert status == 0
    assert output in found


def test_hosts_of_pbs_are_counted_once(tmp_path: Path) -> None:
    file = tmp_path / "nodes"
    file.write_text("x1.hsn.cm\nx1.hsn.cm\nx2.other.cm\n\nx1\n10.0.0.1\n10.0.0.2\n")
    assert bash("pbs_hosts", PBS_NODEFILE=str(file)) == (0, "x1\nx2\n10.0.0.1\n10.0.0.2\n")


def test_a_missing_nccl_plugin_is_said_on_several_nodes(tmp_path: Path) -> None:
    code = "check_nccl_plugin 2; echo went on"
    assert bash(code)[1].startswith("hpc_dl job: no libnccl-net.so on LD_LIBRARY_PATH")
    assert bash("check_nccl_plugin 1") == (0, "")
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "libnccl-net.so").write_text("")
    assert bash(code, LD_LIBRARY_PATH=f"/nowhere:{tmp_path}/lib") == (0, "went on\n")


def test_mpi_type_is_only_set_where_the_site_names_none(tmp_path: Path) -> None:
    scontrol = tmp_path / "scontrol"
    scontrol.write_text('#!/bin/sh\necho "MpiDefault              = $SITE_MPI"\n')
    scontrol.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    code = "match_mpi_to_slurm; echo ${SLURM_MPI_TYPE-unset}"
    assert bash(code, PATH=path, SITE_MPI="none")[1] == "pmi2\n"
    assert bash(code, PATH=path, SITE_MPI="cray_shasta")[1] == "unset\n"
    assert bash(code, PATH=path, SITE_MPI="none", SLURM_MPI_TYPE="pmix")[1] == "pmix\n"


def _program(folder: Path, name: str, code: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{code}\n")
    (folder / name).chmod(0o755)


def test_the_jobs_end_is_what_the_scheduler_says(tmp_path: Path) -> None:
    path = f"{tmp_path}:{os.environ['PATH']}"
    _program(
        tmp_path, "scontrol", 'echo "JobId=$5 StartTime=2026-11-25T04:00:00 EndTime=2026-11-25T04:30:00 Deadline=N/A"'
    )
    given = {"PATH": path, "SLURM_JOB_ID": "7", "TZ": "UTC"}
    assert bash("slurm_job_end", **given) == (0, "1795581000\n")
    _program(tmp_path, "scontrol", 'echo "JobId=7 EndTime=Unknown"')
    assert bash("end=$(slurm_job_end); echo .$end", **given) == (0, ".\n")
    _program(tmp_path, "scontrol", "exit 1")
    assert bash("end=$(slurm_job_end); echo .$end", **given) == (0, ".\n")
    _program(tmp_path, "qstat", "echo '    Resource_List.select = 2\n    Resource_List.walltime = 01:10:09'")
    left = "sleep 2; date +%s; pbs_job_end 09:00:00"
    now, end = map(int, bash(left, PATH=path, PBS_JOBID="7.server")[1].split())
    assert now + 4209 - 4 <= end <= now + 4209 - 1, "what the job has used is taken off"


def test_without_qstat_the_jobs_end_follows_from_what_was_asked_for() -> None:
    now, end = map(int, bash("date +%s; pbs_job_end 00:30:08")[1].split())
    assert now + 1807 <= end <= now + 1809
    assert bash("end=$(pbs_job_end); echo .$end") == (0, ".\n")


END = '{"kind":"end","version":1,"reason":"%s","steps":7,"seconds":%s,"startup_seconds":8.5,"first_step_seconds":0.1}\n'


def _log(folder: Path, line: str) -> dict[str, str]:
    (folder / "log.jsonl").write_text(f'{{"kind":"header","name":"\\"reason\\":\\"stopped\\""}}\n{line}')
    _program(folder, "python", 'echo "python $*"')
    return {"HPC_DL_RUN_FOLDER": str(folder), "PATH": f"{folder}:{os.environ['PATH']}"}


def test_a_finished_training_is_reported_and_leaves_nothing_to_do(tmp_path: Path) -> None:
    given = _log(tmp_path, END % ("finished", "20.5"))
    status, output = bash("end_training 0 echo again", **given)
    assert (status, output.splitlines()[-1]) == (0, f"hpc_dl job: finished: {tmp_path}")
    assert "python -m hpc_dl.cli report" in output
    assert "again" not in output
    assert bash("leave_finished; echo went on", **given) == (0, f"hpc_dl job: finished already: {tmp_path}\n")


def test_a_program_that_left_no_log_is_not_reported(tmp_path: Path) -> None:
    given = _log(tmp_path, "")
    (tmp_path / "log.jsonl").unlink()
    status, output = bash("end_training 0 echo again", **given)
    assert (status, output.splitlines()) == (
        0,
        [f"hpc_dl job: no report: the ranks left no log.jsonl in {tmp_path}", f"hpc_dl job: finished: {tmp_path}"],
    )


def test_a_stopped_training_starts_again_where_there_is_a_command_for_it(tmp_path: Path) -> None:
    given = _log(tmp_path, END % ("stopped", "20.5"))
    status, output = bash("end_training 0 echo again 'and again'; echo went on", **given)
    assert status == 0
    assert output.splitlines()[1:] == ["hpc_dl job: it goes on: echo again and again", "again and again"]
    assert "submit it again with the same run folder" in bash("end_training 0", **given)[1]
    assert bash("leave_finished; echo went on", **given) == (0, "went on\n")


def test_a_training_shorter_than_its_start_does_not_start_again_for_ever(tmp_path: Path) -> None:
    status, output = bash("end_training 0 echo again", **_log(tmp_path, END % ("stopped", "6.0e-1")))
    assert status == 1
    assert "training was shorter than its start: not started again" in output


def test_a_training_without_an_end_goes_on(tmp_path: Path) -> None:
    assert bash("leave_finished; echo went on", **_log(tmp_path, "")) == (0, "went on\n")
    (tmp_path / "log.jsonl").unlink()
    assert bash("leave_finished; echo went on", HPC_DL_RUN_FOLDER=str(tmp_path)) == (0, "went on\n")


RANK = ["bash", str(LAUNCH / "rank.sh"), sys.executable, "-c"]
TELL = (
    "import os, resource; print(os.environ.get('CUDA_VISIBLE_DEVICES'), os.sched_getaffinity(0), os.environ.get('A'))"
)


def rank(code: str, **environ: str) -> subprocess.CompletedProcess[str]:
    given = {"PATH": os.environ["PATH"], **environ}
    return subprocess.run([*RANK, code], env=given, capture_output=True, text=True, timeout=30)


@pytest.mark.parametrize(
    "environ",
    [
        {"PALS_LOCAL_RANKID": "1"},
        {"PMI_LOCAL_RANK": "1"},
        {"MPI_LOCALRANKID": "1"},
        {"OMPI_COMM_WORLD_LOCAL_RANK": "1"},
        {"LOCAL_RANK": "1"},
        {"SLURM_STEP_ID": "0", "SLURM_LOCALID": "1", "PALS_LOCAL_RANKID": "0"},
    ],
    ids=lambda environ: next(iter(environ)),
)
def test_a_rank_is_bound_to_its_own_device_and_cores(environ: dict[str, str]) -> None:
    last = max(os.sched_getaffinity(0))
    done = rank(TELL, HPC_DL_ONE_DEVICE="3:2:1:0", HPC_DL_CPU_BIND=f"0:{last}", A="x y", **environ)
    assert done.stdout == f"2 {{{last}}} x y\n"


def test_a_rank_left_alone_keeps_all() -> None:
    assert rank(TELL).stdout == f"None {os.sched_getaffinity(0)} None\n"


def test_cores_that_are_not_there_are_said_and_cost_nothing() -> None:
    done = rank("print('ran')", HPC_DL_CPU_BIND="100000-100003", LOCAL_RANK="0")
    assert done.stdout == "ran\n"
    assert "cores 100000-100003 cannot be had here; local rank 0 stays unbound" in done.stderr


def test_a_ranks_exit_status_is_its_programs() -> None:
    assert rank("raise SystemExit(7)").returncode == 7
