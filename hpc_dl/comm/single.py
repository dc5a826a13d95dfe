# SPDX-License-Identifier: Apache-2.0
"""One process: a full engine, so that nobody has to ask whether a run is distributed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from hpc_dl.cluster.rank import RankRecord
from hpc_dl.comm.base import Done, Engine, Op, Work
from hpc_dl.errors import HpcDlError

if TYPE_CHECKING:
    from hpc_dl.devices.base import Device


class SingleEngine(Engine):
    """Every collective is the identity."""

    name = "single"

    def start(self, record: RankRecord, device: Device, environ: Mapping[str, str], timeout_seconds: float) -> None:
        if record.world_size not in (None, 1):
            raise HpcDlError(
                "engine 'single'",
                f"{record.launcher} started {record.world_size} ranks",
                "ask for engine 'horovod', 'torch' or 'auto', or start one process",
            )

    def stop(self) -> None:
        return None

    def reduce_async(self, tensor: Tensor, op: Op, name: str) -> Work:
        return Done()

    def broadcast_bytes(self, tensor: Tensor, root: int, name: str) -> None:
        return None

    def gather(self, value: Any) -> list[Any] | None:
        return [value]

    def broadcast(self, value: Any, root: int = 0) -> Any:
        return value
