# SPDX-License-Identifier: Apache-2.0
"""An engine for devices it cannot reach: tensors travel through host memory. Slow, and only where asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hpc_dl.cluster.rank import RankRecord
from hpc_dl.comm.base import CopiedBack, Engine, Lane, Op, Work
from hpc_dl.devices.cpu import Cpu

if TYPE_CHECKING:
    from hpc_dl.devices.base import Device


class StagedLane:
    """A lane whose tensors travel through host memory."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane

    def reduce_async(self, tensor: Tensor, op: Op, name: str) -> Work:
        host = tensor.to("cpu")
        return CopiedBack(tensor, host, self._lane.reduce_async(host, op, name))

    def adasum_async(self, tensor: Tensor, name: str) -> Work:
        host = tensor.to("cpu")
        return CopiedBack(tensor, host, self._lane.adasum_async(host, name))


class HostStaging(Engine):
    """Copies every tensor of a device to the host, lets another engine work on the copy, and copies the result back.

    Args:
        engine: Started on the CPU; never sees a tensor of the device.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.name = engine.name  # type: ignore[misc]
        self.supports_adasum = engine.supports_adasum  # type: ignore[misc]
        self.least_buckets = engine.least_buckets  # type: ignore[misc]

    def start(self, record: RankRecord, device: Device, environ: Mapping[str, str], timeout_seconds: float) -> None:
        self._engine.start(record, Cpu(torch, None, "host staging"), environ, timeout_seconds)
        self.rank, self.world_size = self._engine.rank, self._engine.world_size
        self.backend = f"{self._engine.backend}, staged through host memory (slow)"

    def stop(self) -> None:
        self._engine.stop()

    def abort(self, code: int) -> None:
        self._engine.abort(code)

    def lane(self) -> Lane:
        return StagedLane(self._engine.lane())

    def reduce_async(self, tensor: Tensor, op: Op, name: str) -> Work:
        return StagedLane(self._engine).reduce_async(tensor, op, name)

    def adasum_async(self, tensor: Tensor, name: str) -> Work:
        return StagedLane(self._engine).adasum_async(tensor, name)

    def broadcast_bytes(self, tensor: Tensor, root: int, name: str) -> None:
        host = tensor.to("cpu")
        self._engine.broadcast_bytes(host, root, name)
        if host is not tensor:
            tensor.copy_(host)

    def gather(self, value: Any) -> list[Any] | None:
        return self._engine.gather(value)

    def broadcast(self, value: Any, root: int = 0) -> Any:
        return self._engine.broadcast(value, root)
