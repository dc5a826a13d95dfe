# SPDX-License-Identifier: Apache-2.0
"""CPU threads of a rank: its share of the cores it may run on, never the host's core count."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from hpc_dl.errors import HpcDlError

CPU_FOLDER = Path("/sys/devices/system/cpu")


def read_mask() -> frozenset[int]:
    """Logical CPUs this process may run on (all of them where the system has no affinity, as on macOS)."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def read_cores(cpus: Iterable[int], folder: Path = CPU_FOLDER) -> dict[int, int]:
    """The core of each logical CPU, named by its first hardware thread; a CPU the system says nothing of is its own."""
    return {cpu: _first_sibling(cpu, folder) for cpu in cpus}


def share(masks: Sequence[frozenset[int]], local_rank: int, core_of: Mapping[int, int] | None = None) -> int:
    """Threads of a rank: one per core it may run on, a core being shared by all local ranks that may run on it.

    Two ranks bound to the same 16 cores get 8 threads each; two ranks with cores of their own use all of them. Hardware
    threads of a core count once: dense arithmetic gains nothing from the second.

    Args:
        masks: Logical CPUs of each local rank, in order of local rank.
        core_of: The core of a logical CPU (`read_cores`); by default each is its own.
    """
    cores = [{(core_of or {}).get(cpu, cpu) for cpu in mask} for mask in masks]
    users = Counter(core for mine in cores for core in mine)
    return max(1, int(sum(Fraction(1, users[core]) for core in cores[local_rank])))


def apply(threads: int, torch: Any) -> None:
    """Let torch compute on so many threads."""
    torch.set_num_threads(threads)


def asked_for(environ: Mapping[str, str]) -> int | None:
    """Threads by OMP_NUM_THREADS, None where it is not set: the first of its list, which has one per level of nesting.

    Raises:
        HpcDlError: It is no such list.
    """
    text = environ.get("OMP_NUM_THREADS", "").strip()
    levels = [level.strip() for level in text.split(",")]
    if text and not all(level.isdigit() and int(level) for level in levels):
        raise HpcDlError(f"OMP_NUM_THREADS={text}", "not a list of whole numbers", "correct or unset OMP_NUM_THREADS")
    return int(levels[0]) if text else None


def parse_cpu_list(text: str) -> list[int]:
    """Numbers of the kernel's list format.

    >>> parse_cpu_list("0-2,64")
    [0, 1, 2, 64]
    """
    bounds = [part.split("-") for part in text.strip().split(",") if part]
    return [cpu for bound in bounds for cpu in range(int(bound[0]), int(bound[-1]) + 1)]


def _first_sibling(cpu: int, folder: Path) -> int:
    try:
        return min(parse_cpu_list((folder / f"cpu{cpu}" / "topology" / "thread_siblings_list").read_text()))
    except (OSError, ValueError):
        return cpu
