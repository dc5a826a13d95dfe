# SPDX-License-Identifier: Apache-2.0
"""Rank detection and the doctor under real srun: block, cyclic, ragged, MPI types, and mpiexec inside a job."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import pytest
from slurm_bed import PROJECT, Bed

from hpc_dl.cluster.rank import RankRecord

pytestmark = pytest.mark.slurm

PROGRAM = f"""
import dataclasses, json, os, pathlib, sys
sys.path.insert(0, {str(PROJECT)!r})
from hpc_dl.cluster.rank import detect_rank
from hpc_dl.cluster.rendezvous import find_address
record = dataclasses.asdict(detect_rank(os.environ))
pathlib.Path(f"rank{{record['rank']}}.json").write_text(json.dumps(record))
pathlib.Path(f"address{{record['rank']}}").write_text(str(find_address(os.environ)))
"""
LIMIT = ["-t", "2"]


def records(folder: Path) -> list[RankRecord]:
    return [RankRecord(**json.loads(path.read_text())) for path in sorted(folder.glob("rank*.json"))]


def program(folder: Path) -> list[str]:
    (folder / "who.py").write_text(PROGRAM)
    return [sys.executable, "who.py"]


@pytest.mark.parametrize(
    ("options", "nodes"),
    [
        (["-N", "2", "-n", "4", "-m", "block"], "0011"),
        (["-N", "2", "-n", "4", "-m", "cyclic"], "0101"),
        (["-N", "2", "-n", "5", "-m", "block"], "00011"),
        (["-N", "3", "-n", "7", "-m", "cyclic"], "0120120"),
        (["-N", "2", "-n", "6", "-m", "plane=2"], "001100"),
        (["-N", "2", "-n", "4", "--mpi=pmi2"], "0011"),
        (["-N", "2", "-n", "4", "--mpi=cray_shasta"], "0011"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_srun(bed: Bed, options: list[str], nodes: str, tmp_path: Path) -> None:
    bed.run(["srun", *LIMIT, *options, *program(tmp_path)], tmp_path)
    found = records(tmp_path)
    seen: Counter[str] = Counter()
    for rank, (record, node) in enumerate(zip(found, nodes, strict=True)):
        assert (record.rank, record.world_size, record.launcher) == (rank, len(nodes), "slurm")
        assert (record.node, record.host) == (int(node), f"nid{int(node) + 1:06d}")
        assert (record.local_rank, record.local_world_size) == (seen[node], nodes.count(node))
        seen[node] += 1
    addresses = {path.read_text() for path in tmp_path.glob("address*")}
    assert len(addresses) == 1  # the names do not resolve here: the address srun was called from
    assert "127.0.0.1" in addresses.pop()


def test_the_batch_shell_is_one_process_and_mpiexec_in_it_speaks_for_its_ranks(bed: Bed, tmp_path: Path) -> None:
    """Hydra starts its proxies by srun: the ranks inherit the proxies' SLURM_PROCID."""
    mpiexec = Path(sys.executable).with_name("mpiexec.hydra")
    who = " ".join(program(tmp_path))
    (tmp_path / "job.sh").write_text(
        f"#!/bin/bash\nmkdir shell ranks; cp who.py shell; cp who.py ranks\n(cd shell && {who})\n"
        f"cd ranks && {mpiexec} -n 4 -ppn 2 {who}\n"
    )
    job = bed.submit([*LIMIT, "-N", "2", "-n", "4", "-o", "log", "job.sh"], tmp_path)
    fields = bed.wait(job, 60)
    assert fields["ExitCode"] == "0:0", (tmp_path / "log").read_text()
    assert [(record.launcher, record.world_size) for record in records(tmp_path / "shell")] == [("single", 1)]
    found = records(tmp_path / "ranks")
    assert [(r.rank, r.world_size, r.local_rank, r.local_world_size, r.launcher) for r in found] == [
        (0, 4, 0, 2, "hydra"),
        (1, 4, 1, 2, "hydra"),
        (2, 4, 0, 2, "hydra"),
        (3, 4, 1, 2, "hydra"),
    ]


def test_the_doctor_under_srun(bed: Bed, tmp_path: Path) -> None:
    words = ["-N", "2", "-n", "2", "--mpi=pmi2", sys.executable, "-m", "hpc_dl.cli", "doctor", "--engine", "torch"]
    text = bed.run(["srun", *LIMIT, *words], tmp_path, seconds=120, HPC_DL_MACHINE="local")
    assert "one world of 2 ranks, started by slurm, 2 hosts, 1 per host" in text
    assert "0 failed" in text
