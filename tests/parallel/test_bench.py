# SPDX-License-Identifier: Apache-2.0
"""`hpc-dl bench` between real ranks: all engines, a file that predict can fit, a model's own buckets."""

from pathlib import Path

import pytest

from hpc_dl.predict.benchmark import read_benchmark, samples
from hpc_dl.predict.fit import fit
from tests.ranks import BIN, run

pytestmark = pytest.mark.parallel
HPC_DL = str(BIN / "hpc-dl")
QUICK = ["--largest", "65536", "--seconds", "0.02", "--limit", "60"]


@pytest.mark.parametrize(("engine", "collectives"), [("mpi", 4), ("horovod", 2), ("torch", 2)])
def test_every_engine_is_measured_and_its_file_can_be_fitted(engine: str, collectives: int, tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    ended = run(
        [
            "mpiexec",
            "-n",
            "2",
            HPC_DL,
            "bench",
            "--engine",
            engine,
            "--output",
            str(path),
            *QUICK,
        ]
    )
    assert ended.code == 0, ended.output
    found = read_benchmark(path)
    assert (found.engine, found.ranks) == (engine, 2)
    assert len({one.collective for one in found.measurements}) == collectives
    assert len(found.measurements) == 8 * collectives
    assert fit(samples([found]), found.library).piece(4.0).link.latency_seconds > 0


def test_the_buckets_of_a_recipe_are_measured(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    ended = run(
        [
            "mpiexec",
            "-n",
            "2",
            HPC_DL,
            "bench",
            "--recipe",
            "mnist_cnn",
            "--output",
            str(path),
            *QUICK,
        ]
    )
    assert ended.code == 0, ended.output
    buckets = read_benchmark(path).buckets
    assert buckets is not None
    assert buckets.local_batch == 64
    assert buckets.backward_seconds > 0
    assert buckets.ready[-1] == pytest.approx(1.0, abs=0.1)
    assert "bucket 0:" in ended.output


def test_a_model_needs_an_engine() -> None:
    ended = run(
        [
            "mpiexec",
            "-n",
            "1",
            HPC_DL,
            "bench",
            "--engine",
            "mpi",
            "--recipe",
            "mnist_cnn",
            *QUICK,
        ]
    )
    assert ended.code == 2
    assert "go over an engine" in ended.output
