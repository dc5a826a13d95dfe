# SPDX-License-Identifier: Apache-2.0
"""`hpc-dl doctor` as users call it: on a login node, on real ranks with seeded faults, on a log."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.ranks import clean_environment, run

DOCTOR = [sys.executable, "-m", "hpc_dl.cli", "doctor"]
MPIEXEC = [str(Path(sys.executable).with_name("mpiexec.hydra")), "-n", "2"]


def test_a_login_node_needs_no_torch(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom hpc_dl.cli import main\ncode = main(sys.argv[1:])\n"
        "assert not {'torch', 'numpy', 'mpi4py'} & set(sys.modules)\nsys.exit(code)"
    )
    words = [sys.executable, "-c", program, "doctor", "--json", "--folder", str(tmp_path / "runs")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False, env=clean_environment())
    findings = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, done.stdout + done.stderr
    assert {"python", "torch", "rank", "run folder", "variables"} <= {finding["name"] for finding in findings}
    assert all(set(finding) == {"name", "verdict", "found", "remedy"} for finding in findings)


def test_the_exit_code_tells_of_a_failure(tmp_path: Path) -> None:
    done = run([*DOCTOR, "--folder", str(tmp_path)], environ=clean_environment(HPC_DL_WORLD_SIZE="4"))
    assert done.code == 1
    assert "fail world size: HPC_DL_WORLD_SIZE=4, but this process was started alone" in done.output
    assert "What to do: start it by mpiexec or srun" in done.output
    assert "1 failed" in done.output


def test_a_log(tmp_path: Path) -> None:
    log = tmp_path / "job.o1"
    log.write_text("x1: rank 3 exited with code 7\nx1: rank 0 died from signal 15\n")
    done = run([*DOCTOR, str(log)])
    assert done.code == 1
    assert done.output.startswith("fail rank ended: likely cause: rank 3 ended with code 7 (line 1:")
    assert run([*DOCTOR, str(tmp_path / "none")]).code == 2


@pytest.mark.parallel
def test_two_good_ranks(tmp_path: Path) -> None:
    done = run([*MPIEXEC, *DOCTOR, "--folder", str(tmp_path / "runs"), "--engine", "torch"])
    assert done.code == 0, done.output
    for name in ("worlds", "environments", "binding", "transport", "allreduce", "speed", "clocks", "shared folder"):
        assert f"\nok   {name}: " in done.output or f"\nwarn {name}: " in done.output, done.output
    assert "one world of 2 ranks, started by hydra, 1 hosts, 2 per host" in done.output
    assert done.output.count("ok   python: ") == 1
    assert not (tmp_path / "runs").exists()


SEEDED = {
    # variable set wrongly, or a name of ours: the finding that must name it
    "HPC_DL_MACHINE": ("aurora", "torch"),
    "CCL_PROCESS_LAUNCHER": ("hydra", "oneCCL launcher"),
    "CCL_ATL_TRANSPORT": ("ofi", "oneCCL transport"),
    "CCL_OP_SYNC": ("0", "oneCCL synchronous"),
    "CCL_WORKER_AFFINITY": ("0,52,4", "oneCCL worker cores"),
    "HPC_DL_CPU_BIND": ("4-7:8-11", "oneCCL workers and ranks"),
    "FI_CXI_OVFLOW_BUF_SIZE": ("8388608", "misspelt fabric variable"),
    "FI_MR_CACHE_MONITOR": ("disabled", "memory cache of the fabric"),
    "ZE_FLAT_DEVICE_HIERARCHY": ("FLAT", "device mask"),
    "ZE_AFFINITY_MASK": ("0.1", "device mask"),
    "ONEAPI_DEVICE_SELECTOR": ("opencl:gpu;level_zero:gpu", "device selector"),
    "CUDA_VISIBLE_DEVICES": ("", "hidden devices"),
    "HDF5_USE_FILE_LOCKING": ("TRUE", "file locks"),
    "TMPDIR": ("", "TMPDIR length"),
    "PBS_JOBID": ("", "mpiexec"),
}


@pytest.mark.parallel
def test_fifteen_faults_are_named_with_their_remedies_in_twenty_seconds(tmp_path: Path) -> None:
    """All at once, on two ranks; faults of the second rank and of the ranks among each other included."""
    nodes, long = tmp_path / "nodes", tmp_path / ("t" * 60)
    nodes.write_text("n1\nn2\n")
    long.mkdir()
    (tmp_path / "taken").touch()
    values = {name: value for name, (value, _) in SEEDED.items() if name != "PBS_JOBID"} | {"TMPDIR": str(long)}
    in_job = f'export PBS_JOBID=1.aurora PBS_NODEFILE="{nodes}"; '  # set for the ranks alone: Hydra would obey them
    one_rank_differs = in_job + 'if [ "$PMI_RANK" = 1 ]; then export OMP_NUM_THREADS=7; fi; exec "$@"'
    words = [
        *(["taskset", "-c", "0"] if shutil.which("taskset") else []),
        *MPIEXEC,
        *("sh", "-c", one_rank_differs, "sh"),
        *DOCTOR,
        *("--json", "--engine", "torch", "--folder", str(tmp_path / "taken" / "runs")),
    ]
    started = time.monotonic()
    done = run(words, environ=clean_environment(**values))
    seconds = time.monotonic() - started
    findings = [json.loads(line) for line in done.output.splitlines() if line.startswith("{")]
    bad = {finding["name"]: finding for finding in findings if finding["verdict"] != "ok"}
    expected = {name for _, name in SEEDED.values()} | {"run folder", "environments", "binding"}
    assert expected <= set(bad), (expected - set(bad), done.output)
    assert len(expected) >= 15
    assert all(finding["remedy"] for finding in bad.values())
    assert "OMP_NUM_THREADS is" in bad["environments"]["found"]
    assert "rank 1" in bad["environments"]["found"]
    assert done.code == 1
    assert seconds < 20, f"{seconds:.1f} s"


@pytest.mark.parallel
@pytest.mark.skipif(shutil.which("mpiexec.openmpi") is None, reason="no Open MPI: apt-get install openmpi-bin")
def test_the_wrong_mpiexec() -> None:
    options = ["--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-n", "2"]
    done = run(["mpiexec.openmpi", *options, *DOCTOR])
    assert done.code != 0
    assert "so each rank would be alone" in done.output
    assert "start with the `mpiexec` that belongs to it" in done.output


@pytest.mark.parallel
def test_fewer_ranks_than_the_job_script_expects() -> None:
    done = run([*MPIEXEC, *DOCTOR, "--engine", "torch"], environ=clean_environment(HPC_DL_WORLD_SIZE="4"))
    assert done.code != 0
    assert "a world of 4 ranks: the world has 2" in done.output


@pytest.mark.parallel
def test_variables_left_over_from_another_launcher() -> None:
    done = run([*MPIEXEC, *DOCTOR], environ=clean_environment(RANK="0", WORLD_SIZE="1"))
    assert done.code != 0
    assert "RANK=0: they disagree about the rank" in done.output.replace("\n         ", " ")
    assert "unset variables left over from another" in done.output.replace("\n         ", " ")


@pytest.mark.parallel
def test_a_rank_that_never_arrives(tmp_path: Path) -> None:
    one_sleeps = 'if [ "$PMI_RANK" = 1 ]; then exec sleep 60; fi; exec "$@"'
    words = [*MPIEXEC, "sh", "-c", one_sleeps, "sh", *DOCTOR, "--engine", "torch", "--timeout", "5"]
    done = run([*words, "--folder", str(tmp_path)], timeout_seconds=60)
    assert done.code != 0
    assert "did not end within 5 s on this rank" in done.output
    assert done.seconds < 40
