# SPDX-License-Identifier: Apache-2.0
"""jobscripts/aurora.pbs, unchanged: account, what to train and ranks per node come from the command line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from standin.login import Login

pytestmark = pytest.mark.parallel

PROJECT = Path(__file__).resolve().parents[2]
SCRIPT = str(PROJECT / "jobscripts" / "aurora.pbs")
TRAIN = "mnist_cnn --training.steps 16 --log.warmup_steps 4 --log.window_steps 4 --exchange.engine torch"


def submit(login: Login, train: str = TRAIN) -> tuple[dict[str, object], str]:
    """Submit the script from a folder of the user's; returns the finished job and its log."""
    variables = f"HPC_DL_HOME={PROJECT},HPC_DL_RANKS_PER_NODE=1,HPC_DL_TRAIN={train}"
    job = login.wait(login.submit("-A", "proj", "-v", variables, SCRIPT), seconds=120)
    return job, (login.directory / f"hpc_dl.o{job['sequence']}").read_text()


@pytest.mark.slow
def test_it_trains_on_two_nodes_to_its_report(login: Login) -> None:
    job, text = submit(login)
    assert job["exit_status"] == 0, text
    assert "2 ranks on 2 nodes (pals)" in text
    assert (login.directory / "runs" / "hpc_dl-1" / "report" / "report.html").exists(), text
    assert "hpc_dl job: finished: runs/hpc_dl-1" in text


def test_a_failing_rank_fails_the_job_and_is_named(login: Login) -> None:
    (login.directory / "broken.py").write_text(
        "import os\n\ndef load(**options):\n    if os.environ['PALS_RANKID'] == '1':\n        raise OSError('disk gone')\n"  # noqa: E501
        "    from hpc_dl.data.digits import load\n    return load()\n"
    )
    job, text = submit(login, f"{TRAIN} --data.source broken:load")
    assert job["exit_status"] == 143
    assert "rank 1 of 2 on n2 failed: OSError: disk gone" in text
    assert "training ended with status 143" in text
    diagnosis = login.run(sys.executable, "-m", "hpc_dl.cli", "doctor", "hpc_dl.o1")
    assert diagnosis.stdout.startswith("fail failed rank: likely cause: rank 1 on n2 failed: OSError: disk gone")


def test_the_doctor_on_the_ranks_of_a_job(login: Login) -> None:
    script = (
        "#!/bin/bash -l\n#PBS -N check\n#PBS -l select=2,walltime=300,filesystems=home -A p -j oe\n"
        'cd "$PBS_O_WORKDIR"; module load frameworks\n'
        "mpiexec -n 2 --ppn 1 --envall --env HPC_DL_WORLD_SIZE=2 hpc-dl doctor --engine torch\n"
    )
    job = login.wait(login.submit(script=script), seconds=120)
    text = (login.directory / "check.o1").read_text()
    assert job["exit_status"] == 0, text
    assert "one world of 2 ranks, started by pals, 2 hosts, 1 per host" in text
    assert "ok   allreduce: " in text
    assert "0 failed" in text


def test_a_missing_module_stops_it(make_site: Callable[..., Login]) -> None:
    job, text = submit(make_site(modules=("python",)))
    assert job["exit_status"] == 1
    assert "module load frameworks failed: module avail frameworks shows what there is" in text


def test_a_node_of_aurora_without_its_devices_stops_it(make_site: Callable[..., Login]) -> None:
    names = ("x4101c0s0b0n0.hsn.cm.aurora.alcf.anl.gov", "x4101c0s1b0n0.hsn.cm.aurora.alcf.anl.gov")
    job, text = submit(make_site(nodes=names))
    assert job["exit_status"] == 1
    assert "node x4101c0s0b0n0 shows 0 devices, 6 are needed: leave the node out and tell the site" in text
