# SPDX-License-Identifier: Apache-2.0
"""What is measured: collectives of an engine, or of MPI itself, behind one small interface."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from hpc_dl.errors import HpcDlError

if TYPE_CHECKING:
    from hpc_dl.comm.base import Engine
    from hpc_dl.devices.base import Device

ELEMENT_BYTES = 4
"""Gradients are float32."""
Action = Callable[[], None]


class Transport(ABC):
    """Some ranks and the collectives they can do."""

    rank: int
    ranks: int
    engine: str
    backend: str
    collectives: tuple[str, ...]
    least_buckets: int = 1
    """As the engine's."""

    @abstractmethod
    def prepare(self, collective: str, size_bytes: int) -> Action:
        """A function that does the collective once, on buffers made here, and returns when this rank is done.

        Args:
            collective: One of `collectives`.
            size_bytes: What a rank ends up with (allreduce, broadcast, allgather) or starts with (reduce-scatter).
        """

    @abstractmethod
    def gather(self, value: Any) -> list[Any] | None:
        """Values of all ranks on rank 0."""

    @abstractmethod
    def broadcast(self, value: Any) -> Any:
        """Rank 0's value."""

    @abstractmethod
    def barrier(self) -> None:
        """Wait for all ranks."""


class EngineTransport(Transport):
    """An engine of `hpc_dl.comm`: what training itself uses."""

    collectives = ("allreduce", "broadcast")

    def __init__(self, engine: Engine, device: Device) -> None:
        self._engine, self._device = engine, device
        self.rank, self.ranks = engine.rank, engine.world_size
        self.engine, self.backend = engine.name, engine.backend
        self.least_buckets = engine.least_buckets

    def prepare(self, collective: str, size_bytes: int) -> Action:
        import torch

        elements = max(1, size_bytes // ELEMENT_BYTES)
        tensor = torch.zeros(elements, device=self._device.torch_device)
        name = f"bench.{collective}.{size_bytes}"
        if collective == "broadcast":
            raw = tensor.view(torch.uint8)
            return lambda: self._finish(lambda: self._engine.broadcast_bytes(raw, 0, name))
        return lambda: self._finish(lambda: self._engine.reduce_async(tensor, "sum", name).wait())

    def _finish(self, action: Action) -> None:
        action()
        self._device.synchronize()

    def gather(self, value: Any) -> list[Any] | None:
        return self._engine.gather(value)

    def broadcast(self, value: Any) -> Any:
        return self._engine.broadcast(value)

    def barrier(self) -> None:
        self._engine.barrier()


class MpiTransport(Transport):
    """MPI through mpi4py, with nothing in between: host memory only."""

    engine = "mpi"
    backend = "mpi"
    collectives = ("allreduce", "broadcast", "allgather", "reduce-scatter")

    def __init__(self, mpi: Any) -> None:
        """Args: mpi: mpi4py's MPI module."""
        self._mpi, self._world = mpi, mpi.COMM_WORLD
        self.rank, self.ranks = self._world.Get_rank(), self._world.Get_size()

    def prepare(self, collective: str, size_bytes: int) -> Action:
        world, mpi = self._world, self._mpi
        whole = max(1, size_bytes // ELEMENT_BYTES)
        share = max(1, whole // self.ranks)
        buffer = np.zeros(max(whole, share * self.ranks), np.float32)
        part = np.zeros(share, np.float32)
        actions: dict[str, Action] = {
            "allreduce": lambda: world.Allreduce(mpi.IN_PLACE, buffer[:whole]),
            "broadcast": lambda: world.Bcast(buffer[:whole]),
            "allgather": lambda: world.Allgather(part, buffer[: share * self.ranks]),
            "reduce-scatter": lambda: world.Reduce_scatter_block(buffer[: share * self.ranks], part),
        }
        return actions[collective]

    def gather(self, value: Any) -> list[Any] | None:
        values: list[Any] | None = self._world.gather(value)
        return values

    def broadcast(self, value: Any) -> Any:
        return self._world.bcast(value)

    def barrier(self) -> None:
        self._world.Barrier()


def mpi_transport() -> MpiTransport:
    """MPI's world, where mpi4py is installed."""
    from hpc_dl.comm import mpi

    module = mpi.module()
    if module is None:
        raise HpcDlError("bench of bare MPI", *mpi.reason_against())
    return MpiTransport(module)
