# SPDX-License-Identifier: Apache-2.0
"""What this rank really got: CPUs, NUMA nodes, threads, device.

A launcher's binding options are wishes; this is what came of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hpc_dl.devices.threads import parse_cpu_list, read_cores, read_mask

if TYPE_CHECKING:
    from hpc_dl.devices.base import Device

SYSTEM = Path("/sys")


@dataclass(frozen=True)
class Binding:
    """One rank's share of its host, as the rank itself sees it."""

    host: str
    local_rank: int
    cpus: frozenset[int]
    """Logical CPUs it may run on."""
    cores: int
    """Cores these belong to."""
    numa: tuple[int, ...]
    """NUMA nodes these belong to."""
    device: str
    """As torch calls it, such as cuda:3."""
    device_numa: int | None
    """NUMA node the device hangs on, where the system tells."""
    threads: int = 0
    """CPU threads torch computes on; 0 while not decided."""


def observe(host: str, local_rank: int, device: Device, system: Path = SYSTEM) -> Binding:
    """What this rank has.

    Args:
        host: Name of this host.
        local_rank: This rank among those of the host.
        device: What it computes on.
        system: Where the kernel shows CPUs, NUMA nodes and PCI devices.
    """
    cpus = read_mask()
    cores = read_cores(cpus, system / "devices/system/cpu")
    numa = tuple(node for node, own in sorted(_numa_nodes(system).items()) if own & cpus)
    device_numa = _device_numa(device.pci_address(), system)
    return Binding(host, local_rank, cpus, len(set(cores.values())), numa, str(device.torch_device), device_numa)


def format_cpu_list(cpus: Iterable[int]) -> str:
    """The kernel's list format.

    >>> format_cpu_list([0, 1, 2, 64])
    '0-2,64'
    """
    runs: list[list[int]] = []
    for cpu in sorted(cpus):
        if runs and cpu == runs[-1][-1] + 1:
            runs[-1][1:] = [cpu]
        else:
            runs.append([cpu])
    return ",".join("-".join(map(str, run)) for run in runs)


def _numa_nodes(system: Path) -> dict[int, set[int]]:
    """Logical CPUs of each NUMA node; none on systems that do not show them."""
    lists = (system / "devices/system/node").glob("node[0-9]*/cpulist")
    return {int(path.parent.name.removeprefix("node")): set(parse_cpu_list(path.read_text())) for path in lists}


def _device_numa(pci_address: str | None, system: Path) -> int | None:
    try:
        node = int((system / "bus/pci/devices" / (pci_address or "none") / "numa_node").read_text())
    except (OSError, ValueError):
        return None
    return node if node >= 0 else None  # -1: the firmware does not say
