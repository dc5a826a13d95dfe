# SPDX-License-Identifier: Apache-2.0
"""What a device is: the interface of all kinds. Importing this module imports no torch."""

from __future__ import annotations

import contextlib
import gc
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

if TYPE_CHECKING:
    import torch

    from hpc_dl.devices.scaler import LossScaler

Environ = Mapping[str, str]
DeviceMap = Callable[[int], int]
"""From the local rank to the number of its device on a whole node, as the machine counts them."""

PRECISIONS = {"fp32": None, "bf16": "bfloat16", "fp16": "float16", "fp64": None}
"""The type that a precision computes in under autocast over fp32 weights; None where everything runs as it is."""


class Unavailable(NamedTuple):
    """Why a kind of device cannot be used here, and what to do about it."""

    found: str
    remedy: str


class Variable(NamedTuple):
    """An environment variable a device wants before the process starts."""

    name: str
    value: str
    reason: str
    """With its source."""


class Device(ABC):
    """What a rank computes on."""

    name: ClassVar[str]
    default_backend: str
    """What torch.distributed moves bytes with on this device: gloo, nccl or xccl."""
    variables: ClassVar[tuple[Variable, ...]] = ()
    """Wanted in the environment before the process starts."""

    def __init__(self, torch: Any, index: int | None, why: str) -> None:
        """Args: torch: the module (or a stand-in); index: among the visible devices; why: this device was picked."""
        self._torch = torch
        self.torch_device: torch.device = torch.device(self.name if index is None else f"{self.name}:{index}")
        self.why = why

    @abstractmethod
    def identity(self) -> str | None:
        """The physical device, whatever its number here; None where sharing it is in order (cpu)."""

    def pci_address(self) -> str | None:
        """Its place, as /sys/bus/pci/devices names it; None where it has none or torch is silent."""
        return None

    @abstractmethod
    def make_current(self) -> None:
        """Make it the process's device. Called before the engine starts: later, collectives may hang (see xpu.py)."""

    @abstractmethod
    def synchronize(self) -> None:
        """Wait until all work given to the device is done."""

    @abstractmethod
    def memory_used_bytes(self) -> int:
        """Memory this process holds on the device now."""

    @abstractmethod
    def memory_total_bytes(self) -> int:
        """Memory of the device."""

    @abstractmethod
    def seed(self, value: int) -> None:
        """Seed the CPU's default generator and this device's; cheap enough for every step."""

    @abstractmethod
    def mark(self) -> object:
        """A point in the device's time; taking it does not wait."""

    @abstractmethod
    def seconds_between(self, earlier: object, later: object) -> float:
        """Seconds of the device's time between two marks; waits for the later one."""

    @abstractmethod
    def is_out_of_memory(self, error: BaseException) -> bool:
        """Did this error say that the device's memory is full?"""

    def release_memory(self) -> None:
        """Give back what is held and not used, after an attempt that went over the top."""
        gc.collect()

    def autocast(self, precision: str) -> contextlib.AbstractContextManager[Any]:
        """The context a forward pass runs in; a new one for each use."""
        if (name := PRECISIONS[precision]) is None:
            return contextlib.nullcontext()
        dtype = getattr(self._torch, name)
        context: contextlib.AbstractContextManager[Any] = self._torch.autocast(self.name, dtype=dtype)
        return context

    def scaler(self, precision: str, agree: Callable[[torch.Tensor], None] | None = None) -> LossScaler:
        """The loss scaler of a precision; it scales for fp16 and passes everything through otherwise.

        Args:
            agree: Reduces a one-element tensor over all ranks to its maximum, in place; None on one process.
        """
        from hpc_dl.devices.scaler import LossScaler

        return LossScaler(self.torch_device, enabled=precision == "fp16", agree=agree)

    def needs_mpi(self, environ: Environ) -> bool:
        """Must MPI be initialised before the engine starts?"""
        return False

    def environment(self, environ: Environ) -> dict[str, str]:
        """The variables this device wants before the process starts and `environ` does not set."""
        return {row.name: row.value for row in self.variables if row.name not in environ}
