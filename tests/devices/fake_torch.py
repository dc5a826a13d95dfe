# SPDX-License-Identifier: Apache-2.0
"""A torch with GPUs that do not exist: it counts, renumbers, times, fills up and refuses as the real one does.

What it copies, with the place in the real code:

- CUDA_VISIBLE_DEVICES renumbers in its own order and ends at the first number that does not exist (CUDA C++ programming
  guide, environment variables).
- ZE_AFFINITY_MASK is a filter that keeps the node's order; in FLAT mode entries of the form G.T are ignored, so that
  nothing may be left; in COMPOSITE mode G and G.T both count (intel/compute-runtime, execution_environment.cpp,
  parseAffinityMask).
- An index out of range is a RuntimeError, work is asynchronous, `elapsed_time` refuses events that are not recorded,
  not complete or not timed, and is not implemented before oneAPI 2025 (ATen/xpu/XPUEvent.h).
- `manual_seed` seeds the current device's generator alone (torch/xpu/random.py, torch/cuda/random.py).
- A process group is bound to the device that is current when it starts; a collective on another one never returns.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import torch


class Hang(Exception):
    """The real collective would wait for ever here."""


class FakeEvent:
    def __init__(self, space: FakeSpace, enable_timing: bool) -> None:
        self._space, self._timing = space, enable_timing
        self.device: int | None = None
        self.at_seconds = 0.0

    def record(self) -> None:
        self.device = self._space.current_device()
        self.at_seconds = self._space.queued[self.device]

    def query(self) -> bool:
        return self.device is None or self._space.done[self.device] >= self.at_seconds

    def synchronize(self) -> None:
        if self.device is not None:
            self._space.done[self.device] = max(self._space.done[self.device], self.at_seconds)

    def elapsed_time(self, other: FakeEvent) -> float:
        if self.device is None or other.device is None:
            raise RuntimeError("Both events must be recorded before calculating elapsed time.")
        if not (self.query() and other.query()):
            raise RuntimeError("Both events must be completed before calculating elapsed time.")
        if not (self._timing and other._timing):
            raise RuntimeError("Both events must be created with argument 'enable_timing=True'.")
        if not self._space.timed_events:
            raise NotImplementedError(
                "elapsed_time of XPUEvent requires PyTorch to be built with SYCL compiler version 2025.0.0 or newer."
            )
        return 1000 * (other.at_seconds - self.at_seconds)


class FakeSpace:
    """torch.cuda or torch.xpu of a node whose visible devices have these physical names."""

    def __init__(self, kind: str, physical: list[str], memory_bytes: int, uuids: bool, timed_events: bool) -> None:
        self.kind, self.physical, self.memory_bytes = kind, physical, memory_bytes
        self.uuids, self.timed_events = uuids, timed_events
        self.current = 0
        self.waits = 0
        self.queued, self.done = [0.0] * len(physical), [0.0] * len(physical)
        self.reserved, self.in_use = [0] * len(physical), [0] * len(physical)
        self.generators = [torch.Generator().manual_seed(number) for number in range(len(physical))]

    def is_available(self) -> bool:
        return bool(self.physical)

    def device_count(self) -> int:
        return len(self.physical)

    def current_device(self) -> int:
        return self.current

    def set_device(self, index: int) -> None:
        self._check(index)
        self.current = index

    def get_device_properties(self, index: int) -> Any:
        self._check(index)
        tell = _xpu_properties if self.kind == "xpu" else _cuda_properties
        more = tell(self.physical[index]) if self.uuids else {}
        return SimpleNamespace(name="fake", total_memory=self.memory_bytes, **more)

    def synchronize(self, index: int | None = None) -> None:
        index = self.current if index is None else index
        self._check(index)
        self.waits += 1
        self.done[index] = self.queued[index]

    def Event(self, enable_timing: bool = False) -> FakeEvent:
        return FakeEvent(self, enable_timing)

    def manual_seed(self, value: int) -> None:
        self.generators[self.current].manual_seed(value)

    def memory_reserved(self, index: int) -> int:
        self._check(index)
        return self.reserved[index]

    def empty_cache(self) -> None:
        self.reserved[self.current] = self.in_use[self.current]

    # Not in torch: what a program would do with the device.

    def submit(self, seconds: float) -> None:
        """Queue a kernel that takes so long."""
        self.queued[self.current] += seconds

    def allocate(self, size_bytes: int) -> None:
        """Take memory, first what is held and not used."""
        wanted = self.in_use[self.current] + size_bytes
        if wanted > self.memory_bytes:
            name = {"cuda": "CUDA", "xpu": "XPU"}[self.kind]
            raise torch.OutOfMemoryError(f"{name} out of memory. Tried to allocate {size_bytes} bytes.")
        self.in_use[self.current] = wanted
        self.reserved[self.current] = max(self.reserved[self.current], wanted)

    def free(self) -> None:
        """The program drops its tensors; the allocator keeps the memory."""
        self.in_use[self.current] = 0

    def _check(self, index: int) -> None:
        if not 0 <= index < len(self.physical):
            raise RuntimeError(f"The device index is out of range. It must be in [0, {len(self.physical)}).")


class FakeDistributed:
    """torch.distributed, bound to a device from its start."""

    def __init__(self, space: FakeSpace, has_xccl: bool) -> None:
        self._space, self._has_xccl = space, has_xccl
        self._bound: int | None = None

    def is_available(self) -> bool:
        return True

    def is_xccl_available(self) -> bool:
        return self._has_xccl

    def is_initialized(self) -> bool:
        return self._bound is not None

    def init_process_group(self) -> None:
        self._bound = self._space.current_device()

    def all_gather(self) -> None:
        if self._space.current_device() != self._bound:
            raise Hang("the first all-gather waits for ever")


class FakeTorch:
    """The part of the torch module that devices use."""

    OutOfMemoryError = torch.OutOfMemoryError
    bfloat16, float16 = torch.bfloat16, torch.float16
    __version__ = "2.13.0+fake"

    def __init__(self, kind: str, space: FakeSpace, has_xccl: bool) -> None:
        none = FakeSpace("none", [], 0, uuids=True, timed_events=True)
        self.cuda = space if kind == "cuda" else none
        self.xpu = space if kind == "xpu" else none
        self.version = SimpleNamespace(
            cuda="12.9" if kind == "cuda" else None, hip=None, xpu="20250300" if kind == "xpu" else None
        )
        self.distributed = FakeDistributed(space, has_xccl)
        self.default_generator = torch.Generator().manual_seed(99)
        self.autocasts: list[tuple[str, torch.dtype]] = []

    def device(self, name: str) -> torch.device:
        return torch.device(name)

    @contextlib.contextmanager
    def autocast(self, device_type: str, dtype: torch.dtype) -> Iterator[None]:
        self.autocasts.append((device_type, dtype))
        yield


def make(
    kind: str,
    environ: Mapping[str, str],
    gpus: int,
    tiles: int = 1,
    memory_bytes: int = 64 * 2**30,
    uuids: bool = True,
    timed_events: bool = True,
    has_xccl: bool = True,
) -> FakeTorch:
    """A fake torch on a node with so many GPUs of so many tiles, started with these variables."""
    physical = _cuda(environ, gpus) if kind == "cuda" else _xpu(environ, gpus, tiles)
    return FakeTorch(kind, FakeSpace(kind, physical, memory_bytes, uuids, timed_events), has_xccl)


BUSES = (0x03, 0x41, 0x82, 0xC1, 0xD1, 0xE1)
"""PCI buses of the GPUs: the first four are Perlmutter's."""


def _cuda_properties(physical: str) -> dict[str, object]:
    gpu = int(physical.removeprefix("gpu "))
    return {"uuid": f"8f1c-{gpu}", "pci_domain_id": 0, "pci_bus_id": BUSES[gpu], "pci_device_id": 0}


def _xpu_properties(physical: str) -> dict[str, object]:
    """Vendor, device, revision, domain, bus, device, function, reserved, tile + 1 (compute-runtime)."""
    kind, _, place = physical.partition(" ")
    gpu, _, tile = place.partition(".")
    uuid = bytes.fromhex("8680d50b2f00") + bytes(2) + bytes([BUSES[int(gpu)], 0, 0]) + bytes(4)
    return {"uuid": uuid + bytes([int(tile) + 1 if kind == "tile" else 0])}


def _cuda(environ: Mapping[str, str], gpus: int) -> list[str]:
    if "CUDA_VISIBLE_DEVICES" not in environ:
        return [f"gpu {number}" for number in range(gpus)]
    visible = []
    for word in environ["CUDA_VISIBLE_DEVICES"].split(","):
        if not word.strip().isdigit() or int(word) >= gpus:
            break
        visible.append(f"gpu {int(word)}")
    return visible


def _xpu(environ: Mapping[str, str], gpus: int, tiles: int) -> list[str]:
    entries = [word.split(".") for word in environ.get("ZE_AFFINITY_MASK", "").split(",") if word]
    if environ.get("ZE_FLAT_DEVICE_HIERARCHY", "FLAT") == "FLAT":
        names = [f"tile {gpu}.{tile}" for gpu in range(gpus) for tile in range(tiles)]
        wanted = {int(entry[0]) for entry in entries if len(entry) == 1}
        return [name for number, name in enumerate(names) if not entries or number in wanted]
    visible = []
    for gpu in range(gpus):
        chosen = {int(e[1]) for e in entries if len(e) == 2 and int(e[0]) == gpu}
        if not entries or [str(gpu)] in entries or len(chosen) > 1:
            visible.append(f"gpu {gpu}")
        elif chosen:
            visible.append(f"tile {gpu}.{chosen.pop()}")
    return visible
