# SPDX-License-Identifier: Apache-2.0
"""One failing rank ends the job on all ranks, quickly, and says who it was and why."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.ranks import clean_environment, hpc_dl, run, run_ranks

pytestmark = pytest.mark.parallel

LIMIT_SECONDS = 10.0
"""From the failure to the end of the job on all ranks."""

PROGRAM = """
import os, signal, sys, time, torch, hpc_dl
from hpc_dl.settings import ExchangeSettings
engine, how, stamp = sys.argv[1:]
with hpc_dl.start(ExchangeSettings(engine=engine)) as session:
    model = torch.nn.Linear(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    session.distribute(model, optimizer)
    for step in range(10**9):
        if step == 3 and session.rank == 1:
            open(stamp, "w").write(str(time.time()))
            if how == "raise":
                raise FloatingPointError("the loss is not finite")
            os.kill(os.getpid(), signal.SIGKILL)
        optimizer.zero_grad()
        model(torch.ones(2, 4)).sum().backward()
        optimizer.step()
"""


@pytest.mark.parametrize("engine", ["horovod", "torch"])
def test_a_rank_that_raises_is_named_with_its_exception(engine: str, tmp_path: Path) -> None:
    ended = run_ranks(2, PROGRAM, engine, "raise", str(tmp_path / "stamp"))
    assert ended.code != 0
    assert "rank 1 of 2" in ended.output
    assert "FloatingPointError: the loss is not finite" in ended.output
    assert _seconds_since(tmp_path / "stamp") < LIMIT_SECONDS


@pytest.mark.parametrize("engine", ["horovod", "torch"])
def test_a_rank_that_is_killed_ends_the_job(engine: str, tmp_path: Path) -> None:
    ended = run_ranks(2, PROGRAM, engine, "kill", str(tmp_path / "stamp"))
    assert ended.code != 0
    assert "KILLED" in ended.output.upper() or "lost contact with another rank" in ended.output
    assert _seconds_since(tmp_path / "stamp") < LIMIT_SECONDS


@pytest.mark.parametrize("engine", ["horovod", "torch", "auto"])
def test_the_mpiexec_of_another_mpi_is_recognised(engine: str) -> None:
    """Open MPI's mpiexec starts ranks that MPICH leaves alone in worlds of size one."""
    mpiexec = shutil.which("mpiexec.openmpi")
    if mpiexec is None:
        if os.environ.get("CI"):
            pytest.fail("no Open MPI: it belongs to tests/debian-packages.txt")
        pytest.skip("no Open MPI here: apt-get install openmpi-bin")
    words = [mpiexec, "--allow-run-as-root", "--oversubscribe", "-n", "2"]
    ended = run([*words, sys.executable, "-c", PROGRAM, engine, "raise", "/dev/null"], timeout_seconds=60)
    assert ended.code != 0
    assert "ranks started by the mpiexec of Open MPI" in ended.output
    assert "which mpiexec" in ended.output


@pytest.mark.parametrize("engine", ["horovod", "torch"])
def test_a_world_smaller_than_the_job_asked_for_ends_at_the_start(engine: str) -> None:
    environ = clean_environment(HPC_DL_WORLD_SIZE="4")
    ended = run_ranks(2, PROGRAM, engine, "raise", "/dev/null", environ=environ, timeout_seconds=60)
    assert ended.code != 0
    assert "a world of 4 ranks: the world has 2" in ended.output


def test_a_wrong_setting_is_one_error_on_one_rank() -> None:
    ended = run_ranks(2, hpc_dl("train", "mnist_cnn", "--optimizer.learning_rte", "0.1"))
    assert ended.code != 0
    assert ended.output.count("no such setting") == 1
    assert "did you mean optimizer.learning_rate" in ended.output


def test_missing_data_is_named_once_and_ends_all_ranks(tmp_path: Path) -> None:
    flags = ["--data.options.folder", str(tmp_path), "--log.folder", str(tmp_path / "run")]
    ended = run_ranks(2, hpc_dl("train", "fashion_cnn", *flags))
    assert ended.code != 0
    assert str(tmp_path) in ended.output
    assert ended.output.count("What to do") == 1
    assert not (tmp_path / "run" / "log.jsonl").exists()


def test_a_failure_before_the_first_collective_reaches_ranks_that_wait() -> None:
    """Rank 1 cannot have its device; rank 0 is already waiting for it."""
    program = """
        import os, hpc_dl
        from hpc_dl.settings import DeviceSettings
        name = "cuda" if os.environ["PMI_RANK"] == "1" else "cpu"
        hpc_dl.start(device=DeviceSettings(name=name))
    """
    ended = run_ranks(2, program, timeout_seconds=60, environ=clean_environment(CUDA_VISIBLE_DEVICES=""))
    assert ended.code != 0
    assert "rank 1 of 2" in ended.output
    assert "device 'cuda'" in ended.output


def _seconds_since(stamp: Path) -> float:
    """From the moment written by the failing rank to now."""
    import time

    return time.time() - float(stamp.read_text())
