# SPDX-License-Identifier: Apache-2.0
"""The few things asked of MPI directly, through mpi4py, where it is installed.

mpi4py initialises MPI on import unless somebody (Horovod) has done so already; who initialised it finalises it.
"""

from __future__ import annotations

import functools
import sys
from typing import Any


@functools.cache
def module() -> Any | None:
    """mpi4py's MPI with MPI initialised, or None where mpi4py or its MPI library is missing."""
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError):
        return None
    return MPI


def world_size() -> int | None:
    """Number of ranks MPI sees, None without mpi4py."""
    mpi = module()
    return None if mpi is None else int(mpi.COMM_WORLD.Get_size())


def broadcast(value: Any) -> Any:
    """Rank 0's value on every rank; only where `module()` is not None."""
    return module().COMM_WORLD.bcast(value, root=0)  # type: ignore[union-attr]


def abort(code: int) -> None:
    """End all ranks of the MPI world at once, if MPI is up; otherwise do nothing."""
    mpi = module()
    if mpi is not None and mpi.Is_initialized() and not mpi.Is_finalized():
        mpi.COMM_WORLD.Abort(code)


def abort_if_up(code: int) -> None:
    """`abort`, without initialising MPI only to end it."""
    if "mpi4py.MPI" in sys.modules:
        abort(code)
