# SPDX-License-Identifier: Apache-2.0
"""What an engine is: the few collectives everything else is built on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor

from hpc_dl.cluster.rank import RankRecord
from hpc_dl.errors import HpcDlError

if TYPE_CHECKING:
    from hpc_dl.devices.base import Device

Op = Literal["sum", "max", "min"]


class Work(Protocol):
    """A collective under way."""

    def wait(self) -> None:
        """Return when the result is in the tensor (on a GPU: when the current stream may use it)."""


class Done:
    """A collective that had nothing to do."""

    def wait(self) -> None:
        return None


class CopiedBack:
    """A collective on a copy of a tensor, where the engine can reach it; waiting for it brings the result back."""

    def __init__(self, tensor: Tensor, copy: Tensor, work: Work) -> None:
        self._tensor, self._copy, self._work = tensor, copy, work

    def wait(self) -> None:
        self._work.wait()
        if self._copy is not self._tensor:
            self._tensor.copy_(self._copy)


class Lane(Protocol):
    """An order of collectives of its own: what is started here is never paired with what is started elsewhere."""

    def reduce_async(self, tensor: Tensor, op: Op, name: str) -> Work:
        """Start to reduce a contiguous real tensor over all ranks, in place; `name` is the same on all ranks."""

    def adasum_async(self, tensor: Tensor, name: str) -> Work:
        """Like `reduce_async`, with Horovod's adaptive sum; only where the engine supports it."""


class Engine(ABC):
    """How ranks talk. All ranks call the same methods in the same order."""

    name: ClassVar[str]
    backend: str = "none"
    """What moves the bytes: mpi, gloo, nccl, xccl or none."""
    why: str = "asked for"
    """Why this engine was picked."""
    rank: int = 0
    world_size: int = 1
    steps: int = 0
    """Optimizer steps this rank has done, for what the others say where it leaves before them."""

    @abstractmethod
    def start(self, record: RankRecord, device: Device, environ: Mapping[str, str], timeout_seconds: float) -> None:
        """Join the other ranks. Sets rank and world_size as this engine sees them."""

    @abstractmethod
    def stop(self) -> None:
        """Leave in order; all ranks call it."""

    def abort(self, code: int) -> None:
        """End the job on all ranks as far as the engine can; the caller then leaves its process."""
        del code  # one process, or an engine whose launcher ends the others when this rank leaves

    def first_to_leave(self) -> tuple[int, int] | None:
        """The rank that left in order while this one lost contact, and its steps; None where nobody did or can tell."""
        return None

    @abstractmethod
    def reduce_async(self, tensor: Tensor, op: Op, name: str) -> Work:
        """Start to reduce a contiguous tensor over all ranks, in place; `name` is the same on all ranks."""

    @abstractmethod
    def broadcast_bytes(self, tensor: Tensor, root: int, name: str) -> None:
        """Overwrite a contiguous uint8 tensor with the root's."""

    @abstractmethod
    def gather(self, value: Any) -> list[Any] | None:
        """The picklable values of all ranks in order of rank on rank 0 (None elsewhere)."""

    @abstractmethod
    def broadcast(self, value: Any, root: int = 0) -> Any:
        """The root's picklable value on every rank."""

    def adasum_async(self, tensor: Tensor, name: str) -> Work:
        """Like `reduce_async`, with Horovod's adaptive sum; only where `supports_adasum`."""
        raise NotImplementedError(self.name)

    supports_adasum: ClassVar[bool] = False

    least_buckets: ClassVar[int] = 1
    """In how many buckets even a small model's gradients travel, so that most of the way is under backward."""

    def lane(self) -> Lane:
        """A new order of collectives; all ranks call it together. Engines that pair by name need none of their own."""
        return self

    # What follows is the same for every engine.

    def reduce(self, tensor: Tensor, op: Op, name: str = "reduce") -> Tensor:
        """The tensor reduced over all ranks; the argument stays as it is. Complex ones are summed part by part."""
        result = tensor.detach().resolve_conj().clone(memory_format=torch.contiguous_format)
        self.reduce_async(torch.view_as_real(result) if result.is_complex() else result, op, name).wait()
        return result

    def average(self, tensor: Tensor, name: str = "average") -> Tensor:
        """The mean over ranks, as the sum of values scaled by 1 / world size (xccl knows no other mean)."""
        return self.reduce(tensor / self.world_size, "sum", name)

    def barrier(self) -> None:
        """Wait for all ranks."""
        self.reduce(torch.zeros(1), "sum", "barrier")


def left_early(rank: int, steps: int, own_steps: int) -> HpcDlError:
    """What a rank is told that goes on after another one has left in order."""
    return HpcDlError(
        "the same number of steps on all ranks",
        f"rank {rank} left after {steps} steps, and this rank is in a collective after {own_steps}",
        "give all ranks as many batches (hpc_dl.data.workers.batches does), or end together: "
        "`for batch in session.until_any_ends(batches)`",
    )
