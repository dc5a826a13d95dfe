# SPDX-License-Identifier: Apache-2.0
"""The stand-in's mpiexec speaks PALS: its options only, its variables, ranks on their nodes."""

from __future__ import annotations

import json

import pytest
from standin import mpiexec
from standin.login import Login
from test_pbs_jobs import HEADER

pytestmark = pytest.mark.parallel

WHO = """
import dataclasses, json, os, pathlib, sys
from hpc_dl.cluster.rank import detect_rank
from mpi4py import MPI
record = dataclasses.asdict(detect_rank(os.environ))
record |= {"size": MPI.COMM_WORLD.size, "sum": MPI.COMM_WORLD.allreduce(record["rank"]), "name": os.uname().nodename}
record["hydra"] = [name for name in os.environ if name.startswith(("MPI_LOCAL", "HYD"))]
pathlib.Path(f"rank{record['rank']}.json").write_text(json.dumps(record))
"""


def run(login: Login, mpiexec: str) -> str:
    """Run one line in a job on two nodes; returns the job's output."""
    (login.directory / "who.py").write_text(WHO)
    script = HEADER + 'cd "$PBS_O_WORKDIR"; module load frameworks\n' + mpiexec + '; echo "code $?"\n'
    job = login.wait(login.submit("-l", "select=2", script=script))
    return (login.directory / f"job.o{job['sequence']}").read_text()


def test_ranks_know_who_they_are(login: Login) -> None:
    line = (
        "mpiexec -n 4 --ppn 2 --cpu-bind list:1-7:8-14 --line-buffer --envall --env HPC_DL_WORLD_SIZE=4 python who.py"
    )
    assert run(login, line) == "code 0\n"
    records = [json.loads((login.directory / f"rank{rank}.json").read_text()) for rank in range(4)]
    for rank, record in enumerate(records):
        assert record["launcher"] == "pals"
        assert (record["rank"], record["world_size"], record["size"], record["sum"]) == (rank, 4, 4, 6)
        assert (record["local_rank"], record["local_world_size"], record["node"]) == (rank % 2, 2, rank // 2)
        assert record["name"] == f"n{rank // 2 + 1}"
        assert record["hydra"] == []


def test_there_is_no_world_size_without_ours(login: Login) -> None:
    run(login, "mpiexec --np 2 -ppn 1 python who.py")
    assert json.loads((login.directory / "rank1.json").read_text())["world_size"] is None


def test_the_rank_that_failed_is_named_and_the_code_tells_nothing(login: Login) -> None:
    program = "import os,sys,time; time.sleep(60 * (os.environ['PALS_RANKID'] != '1')); sys.exit(7)"
    text = run(login, f'mpiexec -n 2 --ppn 1 python -c "{program}"')
    assert "n2: rank 1 exited with code 7" in text
    assert text.endswith("code 143\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("-n 2 --ppn 1 --bind-to none", "unrecognized option '--bind-to'"),
        ("-n 2 --ppn 1 --map-by node", "unrecognized option '--map-by'"),
        ("-n 2 --npernode 1", "unrecognized option '--npernode'"),
        ("-n 2 --mca btl self", "unrecognized option '--mca'"),
        ("--oversubscribe -n 2", "unrecognized option '--oversubscribe'"),
        ("--allow-run-as-root -n 2", "unrecognized option '--allow-run-as-root'"),
        ("-launcher fork -n 2", "unrecognized option '-launcher'"),
        ("-n 2 --hosts a:2,b:2", "takes a bare list"),
        ("-n 5 --ppn 2", "5 ranks do not fit on 2 nodes"),
        ("-n two", "'two' is not a positive number"),
        ("-n 2 --ppn 2 --cpu-bind list:1", "fewer entries than the 2 ranks per node"),
        ("-n 2 --ppn 2 --cpu-bind cores", "invalid --cpu-bind"),
        ("--env ZE_FLAT_DEVICE_HIERARCHY=FLAT", "no program given"),
    ],
)
def test_words_of_other_launchers_are_refused(
    login: Login, options: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    node_file = login.directory / "nodes"
    node_file.write_text("".join(f"{node}\n" for node in login.site.nodes))
    monkeypatch.setenv("PBS_NODEFILE", str(node_file))
    program = () if "no program" in message else ("true",)
    assert mpiexec.main(str(login.site.folder), *options.split(), *program) == 1
    assert message in capsys.readouterr().err


def test_device_binding_needs_the_composite_mode(login: Login) -> None:
    text = run(login, "ZE_FLAT_DEVICE_HIERARCHY=FLAT mpiexec -n 2 --ppn 1 --gpu-bind list:0:1 true")
    assert "Failed to parse implicit GPU selection" in text
    assert text.endswith("code 1\n")
