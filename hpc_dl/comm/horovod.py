# SPDX-License-Identifier: Apache-2.0
"""Horovod as an engine. The only module that imports horovod.

Horovod 0.28.1 refuses tensors that are not contiguous and tensors of type bfloat16. The first never occurs here: the
exchange hands over flat buckets. The second takes the path of `bf16.py`: half the bytes, summed in fp32.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import horovod.torch as hvd
import torch
from horovod.torch import mpi_lib_v2 as mpi_lib
from torch import Tensor

from hpc_dl.cluster.rank import RankRecord
from hpc_dl.comm import mpi
from hpc_dl.comm.base import Engine, Op, Work
from hpc_dl.comm.bf16 import Bf16Sum
from hpc_dl.environment import give
from hpc_dl.errors import HpcDlError

if TYPE_CHECKING:
    from hpc_dl.devices.base import Device

RANK_BITS = 20
"""A number of steps carries the rank it comes from in its low bits."""
NOBODY = 2**62
FAREWELL_SECONDS = 5.0
"""How long a rank whose collective failed waits to hear who has left: others may have failed, too, or hang."""
OPS = {"sum": hvd.Sum, "max": hvd.Max, "min": hvd.Min}


class HorovodEngine(Engine):
    """Horovod over MPI, Gloo or NCCL, as it was built."""

    name = "horovod"
    supports_adasum = True
    least_buckets = 4  # sums wait up to two cycles of a millisecond each; those that are ready together are fused

    def start(self, record: RankRecord, device: Device, environ: Mapping[str, str], timeout_seconds: float) -> None:
        if hvd.mpi_built() and environ.get("HOROVOD_CONTROLLER", "mpi") == "mpi":
            _start_mpi()
        self._timeout_seconds = timeout_seconds
        _limit_waiting(timeout_seconds)
        hvd.init()
        self.rank, self.world_size = hvd.rank(), hvd.size()
        nccl = device.name == "cuda" and hvd.nccl_built()
        self.backend = "nccl" if nccl else "mpi" if hvd.mpi_enabled() else "gloo"

    def stop(self) -> None:
        over_mpi = hvd.mpi_enabled()
        hvd.shutdown()  # ranks that are in a collective hear of it at once
        _stopped.append(True)
        if over_mpi:
            mpi.smallest(self.steps << RANK_BITS | self.rank, self._timeout_seconds)

    def first_to_leave(self) -> tuple[int, int] | None:
        if not hvd.mpi_built():
            return None
        answer = mpi.smallest(NOBODY, FAREWELL_SECONDS)  # those who have left wait in `stop`
        return None if answer in (None, NOBODY) else (answer & (1 << RANK_BITS) - 1, answer >> RANK_BITS)

    def abort(self, code: int) -> None:
        if hvd.is_initialized() and hvd.mpi_enabled():
            mpi.abort(code)

    def reduce_async(self, tensor: Tensor, op: Op, name: str) -> Work:
        if tensor.dtype == torch.bfloat16:
            if op != "sum":
                raise HpcDlError(f"{op} of bfloat16 numbers over ranks", "Horovod has none", "convert to float32 first")
            return Bf16Sum(tensor, name)
        return _Handle(hvd.allreduce_async_(tensor, name=name, op=OPS[op]))

    def adasum_async(self, tensor: Tensor, name: str) -> Work:
        return _Handle(hvd.allreduce_async_(tensor, name=name, op=hvd.Adasum))

    def broadcast_bytes(self, tensor: Tensor, root: int, name: str) -> None:
        hvd.broadcast_(tensor, root, name=name)

    def gather(self, value: Any) -> list[Any] | None:
        # Not allgather_object: it unpickles everything on every rank, in time quadratic in their number.
        mine = torch.frombuffer(bytearray(pickle.dumps(value)), dtype=torch.uint8)
        sizes = hvd.allgather(torch.tensor([len(mine)]), name="gather.sizes").tolist()
        everything = hvd.allgather(mine, name="gather")
        if self.rank != 0:
            return None
        return [pickle.loads(part.numpy().tobytes()) for part in everything.split(sizes)]

    def broadcast(self, value: Any, root: int = 0) -> Any:
        return hvd.broadcast_object(value, root, name="broadcast")


class HorovodGuest(HorovodEngine):
    """Horovod as a script has started it; the script ends it, too."""

    why = "as the script has started it, for the log and votes"

    def start(self, record: RankRecord, device: Device, environ: Mapping[str, str], timeout_seconds: float) -> None:
        self.rank, self.world_size = hvd.rank(), hvd.size()
        self.backend = "mpi" if hvd.mpi_enabled() else "gloo"

    def stop(self) -> None:
        return None


def is_running() -> bool:
    """Has somebody started it?"""
    return bool(hvd.is_initialized())


def before_shutdown(action: Callable[[], None]) -> None:
    """Call the action before the script ends Horovod."""
    shutdown = hvd.shutdown

    def shutdown_after() -> None:
        action()
        shutdown()

    hvd.shutdown = shutdown_after


def _limit_waiting(seconds: float) -> None:
    """Horovod waits for ever unless it is told otherwise, and looks no earlier than after its warning."""
    give("HOROVOD_STALL_CHECK_TIME_SECONDS", str(max(1, min(60, round(seconds / 2)))))
    give("HOROVOD_STALL_SHUTDOWN_TIME_SECONDS", str(max(2, round(seconds))))


def _start_mpi() -> None:
    """Initialise MPI before Horovod does: who initialises it finalises it, and MPI starts only once in a process."""
    if mpi.module() is None and _stopped:
        found, remedy = mpi.reason_against()
        raise HpcDlError(
            "a second session in one process with engine 'horovod'",
            f"Horovod has ended MPI with the first one, since {found}",
            f"{remedy}, use engine 'torch', or keep one session",
        )


_stopped: list[bool] = []
"""Not empty once Horovod was shut down in this process."""


class _Handle:
    """One of Horovod's handles."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def wait(self) -> None:
        hvd.synchronize(self._handle)


def reason_against(device_name: str) -> str | None:
    """Why this build of Horovod cannot serve a device, or None."""
    if device_name == "cpu":
        return None if hvd.mpi_built() or hvd.gloo_built() else "it was built with neither MPI nor Gloo"
    if device_name == "cuda":
        return None if hvd.nccl_built() or hvd.cuda_built() else "it was built without NCCL"
    if any(f"_{device_name}_" in operation for operation in dir(mpi_lib)):  # Intel's build: horovod_torch_*_torch_xpu_*
        return None
    return f"it has no operations for {device_name} tensors"
