# SPDX-License-Identifier: Apache-2.0
"""The whole command of each launcher, for a full and for a bare launch."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hpc_dl.jobs.launch_command import LAUNCHERS, Launch, launch_words
from hpc_dl.jobs.words import Variable, quote

FULL = Launch(
    program=("python", "train.py"),
    nodes=2,
    ranks=8,
    ranks_per_node=4,
    threads=32,
    cpu_bind="cores",
    cores=("0-7", "8-15"),
    device_order=(3, 2, 1, 0),
    hosts_file="hosts",
    exported=("PATH", "MASTER_ADDR"),
)
EXPECTED = {
    "srun": (
        "srun -N 2 -n 8 --ntasks-per-node 4 -c 32 --cpu-bind=cores --gpu-bind=map_gpu:3,2,1,0 -K1 -l -u "
        "python train.py",
        "srun -N 1 -n 1 --ntasks-per-node 1 -K1 -l -u python train.py",
    ),
    "pals": (
        "mpiexec -n 8 --ppn 4 --envall --line-buffer --label --cpu-bind list:0-7:8-15 python train.py",
        "mpiexec -n 1 --ppn 1 --envall --line-buffer --label python train.py",
    ),
    "hydra": ("mpiexec -n 8 -ppn 4 -f hosts -l python train.py", "mpiexec -n 1 -l python train.py"),
    "openmpi": (
        "mpirun -n 8 -N 4 --hostfile hosts -x PATH -x MASTER_ADDR --bind-to none --tag-output python train.py",
        "mpirun -n 1 --bind-to none --tag-output python train.py",
    ),
    "torchrun": (
        "torchrun --nproc-per-node 4 --nnodes 2 --rdzv-backend c10d --rdzv-endpoint $rendezvous --no-python "
        "python train.py",
        "torchrun --nproc-per-node 1 --standalone --no-python python train.py",
    ),
    "none": ("python train.py", "python train.py"),
}


def text(words: list[str]) -> str:
    return " ".join(quote(word).replace('"', "") for word in words)


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_whole_command(launcher: str) -> None:
    full, bare = EXPECTED[launcher]
    assert text(LAUNCHERS[launcher](FULL)) == full
    assert text(LAUNCHERS[launcher](Launch(program=("python", "train.py")))) == bare


def test_torchrun_in_slurm_is_started_once_per_node() -> None:
    words = text(launch_words("torchrun", "slurm", FULL))
    assert words.startswith("srun -N 2 -n 2 --ntasks-per-node 1 --cpu-bind=none -K1 -l -u torchrun --nproc-per-node 4")


def test_numbers_the_job_counts_stay_variables() -> None:
    launch = Launch(
        program=("x",), nodes=Variable("nodes"), ranks=Variable("ranks"), ranks_per_node=Variable("per_node")
    )
    assert text(LAUNCHERS["pals"](launch)).startswith("mpiexec -n $ranks --ppn $per_node")
    assert text(LAUNCHERS["hydra"](launch)) == "mpiexec -n $ranks -ppn $per_node -l x"


REPORT = "import os; print('rank ' + next((os.environ[n] for n in {names} if n in os.environ), 'alone') + '.')"
NAMES = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "RANK")


@pytest.mark.parametrize(("launcher", "ranks"), [("hydra", "01"), ("openmpi", "01"), ("torchrun", "01"), ("none", "")])
def test_the_words_really_start_ranks(launcher: str, ranks: str, tmp_path: Path) -> None:
    program = (sys.executable, "-c", REPORT.format(names=NAMES))
    launch = Launch(program=program, ranks=2, ranks_per_node=2, exported=("PATH", "HOME"))
    words = launch_words(launcher, "none", launch)
    words[0] = shutil.which(words[0], path=f"{Path(sys.executable).parent}") or words[0]
    if launcher == "openmpi":
        words[0] = shutil.which("mpirun.openmpi") or pytest.skip("no Open MPI: apt-get install openmpi-bin")
    as_root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    done = subprocess.run(
        words, cwd=tmp_path, env={**os.environ, **as_root}, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert sorted(re.findall(r"rank (\d|alone)", done.stdout)) == (list(ranks) or ["alone"])
