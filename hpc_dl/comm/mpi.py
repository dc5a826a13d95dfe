# SPDX-License-Identifier: Apache-2.0
"""The few things asked of MPI directly, through mpi4py, where it is installed.

MPI is initialised at the first need, unless somebody (Horovod) has done so already; who initialised it finalises it.
"""

from __future__ import annotations

import array
import atexit
import functools
import time
from dataclasses import replace
from typing import Any

from hpc_dl.cluster.rank import RankRecord
from hpc_dl.cluster.variables import EXPECTED_WORLD_SIZE
from hpc_dl.errors import HpcDlError

LIBRARIES_OF = {"openmpi": ("Open MPI",), "hydra": ("MPICH", "Intel(R) MPI", "MVAPICH")}
"""Launchers that can start one family of MPI libraries only, and how these call themselves.

An MPICH program under Open MPI's mpiexec either dies in MPI_Init or finds itself alone, by version.
"""


@functools.cache
def _imported() -> tuple[Any | None, str]:
    """mpi4py's MPI, not initialised, or why there is none."""
    try:
        import mpi4py
    except ImportError:
        return None, "mpi4py is not installed"
    try:
        mpi4py.rc.initialize = False
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        return None, f"mpi4py is installed, but no MPI library loads ({str(error).strip().splitlines()[0]})"
    return MPI, ""


def bindings() -> Any | None:
    """mpi4py's MPI, not initialised, or None where mpi4py or its MPI library is missing."""
    return _imported()[0]


def reason_against() -> tuple[str, str]:
    """Why MPI cannot be asked anything here, and what to do about it."""
    found = _imported()[1]
    if "installed, but" in found:
        return found, "load the site's MPI module, or put its libmpi on LD_LIBRARY_PATH"
    return found, "install mpi4py"


@functools.cache
def module() -> Any | None:
    """mpi4py's MPI, initialised, or None where there is none."""
    mpi = bindings()
    if mpi is not None and not mpi.Is_initialized():
        mpi.Init_thread(mpi.THREAD_MULTIPLE)
        atexit.register(lambda: mpi.Is_finalized() or mpi.Finalize())
    return mpi


def refuse_foreign_launcher(launcher: str) -> None:
    """Refuse a launcher that belongs to another family of MPI than the one mpi4py is built for.

    Raises:
        HpcDlError: Names launcher, library and remedy.
    """
    if launcher not in LIBRARIES_OF or (mpi := bindings()) is None:
        return
    library = mpi.Get_library_version().splitlines()[0].strip().rstrip("\x00")
    if not any(name in library for name in LIBRARIES_OF[launcher]):
        raise HpcDlError(
            f"ranks started by the mpiexec of {LIBRARIES_OF[launcher][0]}",
            f"the MPI of this Python environment is {library}, so each rank would be alone",
            "start with the `mpiexec` that belongs to it (`which mpiexec` should lie beside `which python`), "
            "or with srun and the right --mpi type",
        )


def world_size() -> int | None:
    """Number of ranks MPI sees, None without mpi4py."""
    mpi = module()
    return None if mpi is None else int(mpi.COMM_WORLD.Get_size())


def broadcast(value: Any) -> Any:
    """Rank 0's value on every rank; only where `module()` is not None."""
    return module().COMM_WORLD.bcast(value, root=0)  # type: ignore[union-attr]


def smallest(value: int, within_seconds: float) -> int | None:
    """The smallest of all ranks' numbers; None without MPI, or where some rank does not ask for it in time."""
    mpi = module()
    if mpi is None or mpi.Is_finalized():
        return None
    mine, result = array.array("q", [value]), array.array("q", [0])
    request = mpi.COMM_WORLD.Iallreduce([mine, mpi.INT64_T], [result, mpi.INT64_T], op=mpi.MIN)
    begun, pause = time.monotonic(), 0.001
    while not request.Test():
        if time.monotonic() > begun + within_seconds:
            return None
        time.sleep(pause)
        pause = min(2 * pause, 0.1)
    return result[0]


def abort(code: int) -> None:
    """End all ranks of the MPI world at once, if MPI is up; otherwise do nothing."""
    mpi = bindings()
    if mpi is not None and mpi.Is_initialized() and not mpi.Is_finalized():
        mpi.COMM_WORLD.Abort(code)


def with_world_size(record: RankRecord) -> RankRecord:
    """PALS exports no world size: ask MPI."""
    if record.world_size is not None:
        return record
    size = world_size()
    if size is None:
        found, remedy = reason_against()
        raise HpcDlError(
            "the number of ranks",
            f"{record.launcher} exports none, and MPI, which would know, cannot be asked: {found}",
            f"export {EXPECTED_WORLD_SIZE} to all ranks (the job scripts do), or {remedy}",
        )
    return replace(record, world_size=size)
