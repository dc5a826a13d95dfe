# SPDX-License-Identifier: Apache-2.0
"""torch.distributed as an engine: gloo on CPUs, nccl on CUDA, xccl on Xe GPUs."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import time
import weakref
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor

from hpc_dl.cluster.rank import RankRecord
from hpc_dl.cluster.rendezvous import Address, find_address
from hpc_dl.cluster.worlds import Place, refuse_crowded_devices
from hpc_dl.comm import mpi
from hpc_dl.comm.base import CopiedBack, Engine, Lane, Op, Work, left_early
from hpc_dl.errors import HpcDlError

if TYPE_CHECKING:
    from hpc_dl.devices.base import Device

FIRST, ALL = "first to leave", "all have left"
PATIENCE = timedelta(seconds=3)
"""How long a rank waits in a collective before it looks whether another has left. It looks twice: data may be under
way."""
_sessions = itertools.count()
"""Numbers the sessions of a process, the same on all ranks: the launcher's store outlives them."""
OPS = {"sum": dist.ReduceOp.SUM, "max": dist.ReduceOp.MAX, "min": dist.ReduceOp.MIN}


class GroupLane:
    """Collectives of one process group, which are paired in the order they are started.

    Args:
        group: Of all ranks; None for the default one.
        device: What the backend reaches.
        engine: Knows whether another rank has left.
    """

    def __init__(self, group: Any, device: torch.device, engine: TorchEngine) -> None:
        self._group, self._device, self._engine = group, device, engine
        if group is not None:  # its sockets and threads go with the model it served
            weakref.finalize(self, _dissolve, group).atexit = False

    def reduce_async(self, tensor: Tensor, op: Op, name: str) -> Work:
        moved = tensor if tensor.device.type == self._device.type else tensor.to(self._device)
        work: Work = dist.all_reduce(moved, op=OPS[op], group=self._group, async_op=True)
        work = _Watched(work, self._engine) if self._engine.backend == "gloo" else work
        return work if moved is tensor else CopiedBack(tensor, moved, work)

    def adasum_async(self, tensor: Tensor, name: str) -> Work:
        raise NotImplementedError("torch.distributed has no adaptive sum")


def _dissolve(group: Any) -> None:
    if dist.is_initialized():
        with contextlib.suppress(RuntimeError, ValueError):  # the session is ending
            dist.destroy_process_group(group)


class TorchEngine(Engine):
    """The default process group of torch.distributed."""

    name = "torch"

    def start(self, record: RankRecord, device: Device, environ: Mapping[str, str], timeout_seconds: float) -> None:
        self.backend = device.default_backend
        # On Aurora the order is: MPI, then the device, then the process group; the caller has set the device by now.
        if device.needs_mpi(environ):
            mpi.module()
        address = find_address(environ) or _agree_through_mpi(record)
        self._timeout_seconds, timeout = timeout_seconds, timedelta(seconds=timeout_seconds)
        store = self._store = dist.PrefixStore(f"session.{next(_sessions)}", _store(address, record, timeout))
        self._refuse_mixture(store, record)
        if self.backend != "gloo":
            _refuse_shared_devices(store, record, device)
        dist.init_process_group(
            self.backend,
            store=store,
            rank=record.rank,
            world_size=record.world_size or 1,
            timeout=timeout,
            device_id=None if self.backend == "gloo" else device.torch_device,
        )
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        self._device = device.torch_device if self.backend != "gloo" else torch.device("cpu")

    def _refuse_mixture(self, store: dist.Store, record: RankRecord) -> None:
        """Ranks that picked their device by themselves may differ: the group would wait for the odd one in silence."""
        if record.rank == 0:
            store.set("backend", self.backend)
        elif (others := store.get("backend").decode()) != self.backend:
            raise HpcDlError(
                f"backend {others}, as rank 0 has it",
                f"rank {record.rank} has the device for {self.backend}",
                "look after the devices of its node, or name the device for all ranks (--device.name)",
            )

    def stop(self) -> None:
        """Says farewell in the store: in a collective it would meet those of ranks that have steps left."""
        if not dist.is_initialized():
            return
        self._store.compare_set(FIRST, "", json.dumps((self.rank, self.steps)))
        if self._store.add("left", 1) == self.world_size:
            self._store.set(ALL, "left")
        self._wait_for_all()  # rank 0 holds the store: it leaves when all are done
        dist.destroy_process_group()

    def _wait_for_all(self) -> None:
        pause, end = 0.001, time.monotonic() + self._timeout_seconds
        with contextlib.suppress(RuntimeError, dist.DistError):  # rank 0 has gone
            while time.monotonic() < end and not self._store.check([ALL]):
                time.sleep(pause)
                pause = min(2 * pause, 0.5)

    def first_to_leave(self) -> tuple[int, int] | None:
        try:
            if not self._store.check([FIRST]):
                return None
            rank, steps = json.loads(self._store.get(FIRST))
        except (RuntimeError, dist.DistError):
            return None
        return rank, steps

    def abort(self, code: int) -> None:
        with contextlib.suppress(RuntimeError, dist.DistError, AttributeError):
            self._store.set(ALL, "failed")  # those who have left wait for it
        # Where ranks were started over MPI, MPI reaches all of them; elsewhere peers see the broken connection.
        mpi.abort(code)

    def lane(self) -> Lane:
        return self._own_lane(dist.new_group())

    def reduce_async(self, tensor: Tensor, op: Op, name: str) -> Work:
        return self._own_lane(None).reduce_async(tensor, op, name)

    def _own_lane(self, group: Any) -> GroupLane:
        return GroupLane(group, self._device, self)

    def broadcast_bytes(self, tensor: Tensor, root: int, name: str) -> None:
        moved = tensor.to(self._device)
        dist.broadcast(moved, src=root)
        if moved is not tensor:
            tensor.copy_(moved)

    def gather(self, value: Any) -> list[Any] | None:
        values = [None] * self.world_size if self.rank == 0 else None
        dist.gather_object(value, values, dst=0)
        return values

    def broadcast(self, value: Any, root: int = 0) -> Any:
        values = [value]
        dist.broadcast_object_list(values, src=root, device=self._device)
        return values[0]


class _Watched:
    """A collective of gloo; who waits for it in vain, because another rank has left in order, is told."""

    def __init__(self, work: Any, engine: TorchEngine) -> None:
        self._work, self._engine = work, engine

    def wait(self) -> None:
        left = None
        while True:
            try:
                self._work.wait(PATIENCE)
                return
            except RuntimeError as error:
                if "Operation timed out" not in str(error):
                    raise
            if left is not None:
                raise left_early(*left, self._engine.steps)
            left = self._engine.first_to_leave()


def _refuse_shared_devices(store: dist.Store, record: RankRecord, device: Device) -> None:
    """Compare devices before the process group binds them: NCCL ends in words of its own on two ranks of one device."""
    host = record.host or socket.gethostname()
    size = record.world_size or 1
    place = Place(record.rank, size, host, record.local_rank, record.local_world_size, device.identity())
    store.set(f"place.{record.rank}", json.dumps(place))
    if record.rank == 0:
        told = store.multi_get([f"place.{rank}" for rank in range(size)])
        store.set("verdict", json.dumps(_crowded([Place(*json.loads(text)) for text in told])))
    if verdict := json.loads(store.get("verdict")):
        raise HpcDlError(*verdict)


def _crowded(places: list[Place]) -> tuple[str, str, str] | None:
    try:
        refuse_crowded_devices(places)
    except HpcDlError as error:
        return error.asked, error.found, f"{error.remedy}; to share devices, use --exchange.host_staging true"
    return None


def _agree_through_mpi(record: RankRecord) -> Address:
    """Rank 0 proposes itself and a free port; MPI tells the others."""
    if mpi.module() is None:
        found, remedy = mpi.reason_against()
        raise HpcDlError(
            "engine 'torch'",
            f"{record.launcher} names no address for the ranks to meet, and MPI, which could, cannot be asked: {found}",
            f"set MASTER_ADDR and MASTER_PORT for all ranks, or {remedy}",
        )
    if mpi.world_size() != record.world_size:
        raise HpcDlError(
            f"a world of {record.world_size} ranks, as {record.launcher} announces",
            f"MPI sees {mpi.world_size()}",
            "start the ranks with the mpiexec of the MPI mpi4py was built for (`python -m mpi4py --mpi-lib-version`)",
        )
    alone = record.local_world_size == record.world_size
    with socket.socket() as probe:
        probe.bind(("", 0))
        port = probe.getsockname()[1]
    return Address(*mpi.broadcast(("127.0.0.1" if alone else socket.gethostname(), port)))


def _store(address: Address, record: RankRecord, timeout: timedelta) -> dist.Store:
    try:
        return dist.TCPStore(address.host, address.port, record.world_size, record.rank == 0, timeout)
    except (RuntimeError, dist.DistError) as error:
        raise HpcDlError(
            f"a meeting of all ranks at {address.host}:{address.port}",
            str(error).splitlines()[0],
            "check that the first host's name resolves on all nodes, that the port is free, and that all ranks started",
        ) from error
