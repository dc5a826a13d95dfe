# SPDX-License-Identifier: Apache-2.0
"""Rank detection under real launchers, several hosts played by one machine: block, cyclic and ragged."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from hpc_dl.cluster.rank import RankRecord

pytestmark = pytest.mark.parallel

# Each rank writes a file of its own: lines of several ranks can run together on the way to standard output.
PROGRAM = """
import dataclasses, json, os, pathlib
from hpc_dl.cluster.rank import detect_rank
record = detect_rank(os.environ)
pathlib.Path(f"rank{record.rank}.json").write_text(json.dumps(dataclasses.asdict(record)))
"""
# Called like ssh by Open MPI: a host name of its own is all that a host needs here.
AGENT = '#!/bin/sh\nhost=$1; shift; exec unshare -u sh -c "hostname $host; $*"\n'
OPEN_MPI = shutil.which("mpiexec.openmpi")
HYDRA = Path(sys.executable).with_name("mpiexec.hydra")

needs_open_mpi = pytest.mark.skipif(OPEN_MPI is None, reason="no Open MPI: apt-get install openmpi-bin")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="playing several hosts under Open MPI needs root")
needs_hydra = pytest.mark.skipif(not HYDRA.exists(), reason="no MPICH: pip install mpich")


def run(words: list[str], tmp_path: Path, count: int = 4) -> list[RankRecord]:
    """The records of all ranks, in order of rank."""
    program = tmp_path / "who_am_i.py"
    program.write_text(PROGRAM)
    done = subprocess.run(
        [*words, sys.executable, str(program)], capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr + done.stdout
    paths = sorted(tmp_path.glob("rank*.json"))
    assert len(paths) == count, done.stdout
    return [RankRecord(**json.loads(path.read_text())) for path in paths]


def check(records: list[RankRecord], hosts: str, launcher: str) -> None:
    """`hosts` gives each rank's host as a letter ("abab" is cyclic); the rest follows by counting."""
    seen: Counter[str] = Counter()
    for rank, (record, host) in enumerate(zip(records, hosts, strict=True)):
        assert record == RankRecord(rank, len(hosts), seen[host], hosts.count(host), None, launcher, host)
        seen[host] += 1


@needs_hydra
@pytest.mark.parametrize(
    ("options", "hosts"),
    [
        (["-hosts", "a,b", "-ppn", "2"], "aabb"),
        (["-hosts", "a,b", "-ppn", "1"], "abab"),
        (["-hosts", "a:3,b:1"], "aaab"),
    ],
    ids=["block", "cyclic", "ragged"],
)
def test_mpich(options: list[str], hosts: str, tmp_path: Path) -> None:
    check(run([str(HYDRA), "-launcher", "fork", *options, "-n", "4"], tmp_path), hosts, "hydra")


@needs_open_mpi
@needs_root
@pytest.mark.parametrize(
    ("options", "hosts"),
    [
        (["--host", "a:2,b:2", "--map-by", "slot"], "aabb"),
        (["--host", "a:2,b:2", "--map-by", "node"], "abab"),
        (["--host", "a:3,b:1", "--map-by", "node"], "abaa"),
        (["--host", "a:3,b:1", "--map-by", "slot"], "aaab"),
    ],
    ids=["block", "cyclic", "cyclic and ragged", "ragged"],
)
def test_open_mpi(options: list[str], hosts: str, tmp_path: Path) -> None:
    agent = tmp_path / "agent"
    agent.write_text(AGENT)
    agent.chmod(0o755)
    version = subprocess.run([str(OPEN_MPI), "--version"], capture_output=True, text=True, timeout=30, check=True)
    ssh = ["--mca", "plm_rsh_agent"] if " 4." in version.stdout else ["--prtemca", "plm_ssh_agent"]
    words = [str(OPEN_MPI), "--allow-run-as-root", "--bind-to", "none", *ssh, str(agent), *options, "-n", "4"]
    check(run(words, tmp_path), hosts, "openmpi")


def test_torchrun(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "torch.distributed.run", "--no-python", "--standalone", "--nproc-per-node", "2"]
    records = run(words, tmp_path, count=2)
    assert records == [RankRecord(rank, 2, rank, 2, 0, "torchrun") for rank in range(2)]


@needs_hydra
def test_torchrun_under_mpiexec_speaks_for_its_own_ranks(tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--no-python", "--standalone", "--nproc-per-node", "2"]
    records = run([str(HYDRA), "-n", "1", *torchrun], tmp_path, count=2)
    assert [(record.rank, record.world_size, record.launcher) for record in records] == [
        (0, 2, "torchrun"),
        (1, 2, "torchrun"),
    ]
