# SPDX-License-Identifier: Apache-2.0
"""The host's processor: always there, shared by the ranks of a host."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from hpc_dl.devices.base import Device, DeviceMap, Environ, Unavailable

OUT_OF_MEMORY_TEXTS = ("DefaultCPUAllocator: not enough memory", "DefaultCPUAllocator: can't allocate memory")
"""c10/core/impl/alloc_cpu.cpp; a RuntimeError, unlike on an accelerator."""


def unavailable(torch: Any, environ: Environ) -> Unavailable | None:
    """None: there is always a CPU."""
    return None


def build(torch: Any, local_rank: int, device_map: DeviceMap, environ: Environ, why: str) -> Device:
    """The CPU, for whichever rank."""
    return Cpu(torch, None, why)


class Cpu(Device):
    """Work is done when the call returns, so marks are clock readings and there is nothing to wait for."""

    name = "cpu"
    default_backend = "gloo"

    def identity(self) -> str | None:
        return None

    def make_current(self) -> None:
        return None

    def synchronize(self) -> None:
        return None

    def memory_used_bytes(self) -> int:
        """Resident memory of the process (proc(5), statm); its largest so far where there is no /proc."""
        statm = Path("/proc/self/statm")
        if statm.exists():
            return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS, getrusage(2)

    def memory_total_bytes(self) -> int:
        """Memory of the host, all ranks together."""
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

    def seed(self, value: int) -> None:
        self._torch.default_generator.manual_seed(value)

    def mark(self) -> object:
        return time.perf_counter()

    def seconds_between(self, earlier: Any, later: Any) -> float:
        return float(later - earlier)

    def is_out_of_memory(self, error: BaseException) -> bool:
        return isinstance(error, MemoryError) or any(text in str(error) for text in OUT_OF_MEMORY_TEXTS)
