# SPDX-License-Identifier: Apache-2.0
"""An engine among ranks that a script has brought together by itself: a process group of its own beside the script's.

It carries the log and votes, on the host, so that nothing is paired with the script's collectives.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor

from hpc_dl.cluster.rank import RankRecord
from hpc_dl.comm.base import CopiedBack, Engine, Op, Work
from hpc_dl.comm.torch_distributed import OPS

if TYPE_CHECKING:
    from hpc_dl.devices.base import Device

CPU = torch.device("cpu")


class GuestEngine(Engine):
    """A gloo group of all ranks of the script's default group, which it leaves alone."""

    name = "torch"
    backend = "gloo"
    why = "a group beside the script's own, for the log and votes"

    def start(self, record: RankRecord, device: Device, environ: Mapping[str, str], timeout_seconds: float) -> None:
        del record, device, environ
        self._group = dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout_seconds))
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()

    def stop(self) -> None:
        if dist.is_initialized():
            dist.destroy_process_group(self._group)

    def reduce_async(self, tensor: Tensor, op: Op, name: str) -> Work:
        moved = tensor.to(CPU)
        return CopiedBack(tensor, moved, dist.all_reduce(moved, op=OPS[op], group=self._group, async_op=True))

    def broadcast_bytes(self, tensor: Tensor, root: int, name: str) -> None:
        moved = tensor.to(CPU)
        dist.broadcast(moved, src=root, group=self._group)
        if moved is not tensor:
            tensor.copy_(moved)

    def gather(self, value: Any) -> list[Any] | None:
        values = [None] * self.world_size if self.rank == 0 else None
        dist.gather_object(value, values, dst=0, group=self._group)
        return values

    def broadcast(self, value: Any, root: int = 0) -> Any:
        values = [value]
        dist.broadcast_object_list(values, src=root, group=self._group, device=CPU)
        return values[0]
