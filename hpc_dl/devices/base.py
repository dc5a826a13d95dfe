# SPDX-License-Identifier: Apache-2.0
"""What a device is, and which one this rank computes on.

Importing this module imports no torch and touches no accelerator; `choose` does both.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from hpc_dl.errors import HpcDlError, nearest

if TYPE_CHECKING:
    import torch

    from hpc_dl.cluster.rank import RankRecord
    from hpc_dl.devices.scaler import LossScaler

Environ = Mapping[str, str]
DeviceMap = Callable[[int], int]
"""From the local rank to the number of its device on a whole node, as the machine counts them."""

DEVICES = {"cpu": "hpc_dl.devices.cpu", "cuda": "hpc_dl.devices.cuda", "xpu": "hpc_dl.devices.xpu"}
"""The registry: a module has `unavailable(torch, environ)` and `build(torch, local_rank, device_map, environ, why)`."""

AUTO_ORDER = ("xpu", "cuda", "cpu")
"""A torch build has one kind of accelerator, so the order only says that the CPU comes last."""

AUTOCAST_TYPES = {"bf16": "bfloat16", "fp16": "float16"}
"""Precisions that run under autocast over fp32 weights; the others run as they are."""


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
        if precision not in AUTOCAST_TYPES:
            return contextlib.nullcontext()
        dtype = getattr(self._torch, AUTOCAST_TYPES[precision])
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


def choose(
    name: str,
    rank_record: RankRecord,
    device_map: DeviceMap,
    environ: Environ,
    ipex: bool = False,
    torch: Any | None = None,
) -> Device:
    """This rank's device.

    Args:
        name: cpu, cuda, xpu or auto.
        rank_record: Its local rank picks the index.
        device_map: The machine's; identity where the machine is not known.
        environ: The process's environment, for the masks that hide devices.
        ipex: Import Intel's extension first: on stacks of its time it is what makes XPUs visible to torch.
        torch: A stand-in for the torch module, for tests.

    Raises:
        HpcDlError: The device (or IPEX) asked for does not exist here, or there are too few devices.
    """
    if name != "auto" and name not in DEVICES:
        raise HpcDlError(f"device {name!r}", "no such device", nearest(name, ("auto", *DEVICES)))
    torch = importlib.import_module("torch") if torch is None else torch
    if ipex:
        importlib.import_module("hpc_dl.devices.ipex").load(name)
    passed_over: list[str] = []
    for candidate in AUTO_ORDER if name == "auto" else (name,):
        module = importlib.import_module(DEVICES[candidate])
        reason: Unavailable | None = module.unavailable(torch, environ)
        if reason is None:
            why = "asked for" if name != "auto" else "; ".join(["first usable", *passed_over])
            device: Device = module.build(torch, rank_record.local_rank, device_map, environ, why)
            return device
        if name != "auto":
            raise HpcDlError(f"device {name!r}", reason.found, reason.remedy)
        passed_over.append(f"no {candidate} ({reason.found})")
    raise AssertionError("the CPU is always there")
