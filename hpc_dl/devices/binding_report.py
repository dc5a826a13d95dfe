# SPDX-License-Identifier: Apache-2.0
"""One table and one verdict on what all ranks got, compared with the machine's record. Rank 0's work."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hpc_dl.cluster.machine import Machine
from hpc_dl.devices.binding import Binding, format_cpu_list
from hpc_dl.devices.binding_checks import CHECKS

HOSTS_NAMED = 3
COLUMNS = ("local rank", "CPUs", "cores", "NUMA", "threads", "device", "device's NUMA")


@dataclass(frozen=True)
class Alike:
    """Hosts whose ranks got the same."""

    hosts: tuple[str, ...]
    ranks: tuple[Binding, ...]
    """Those of the first host, in order of local rank."""

    def __str__(self) -> str:
        more = len(self.hosts) - HOSTS_NAMED
        return ", ".join(self.hosts[:HOSTS_NAMED]) + (f" and {more} more" if more > 0 else "")


@dataclass(frozen=True)
class Judgement:
    """What all ranks got, and whether it is what the machine wants."""

    machine: str
    groups: tuple[Alike, ...]
    problems: tuple[str, ...]

    @property
    def verdict(self) -> str:
        wanted = f"as {self.machine}'s record wants it"
        return f"binding is {wanted}" if not self.problems else f"binding is not {wanted}: " + "; ".join(self.problems)

    def text(self) -> str:
        """A table per group of hosts that are alike, and the verdict."""
        return "\n".join([*(f"{group}\n{_table(group.ranks)}" for group in self.groups), self.verdict])

    def record(self) -> dict[str, Any]:
        """For the run log's header."""
        groups = [
            {"hosts": str(group), "host_count": len(group.hosts), "ranks": [_row(rank) for rank in group.ranks]}
            for group in self.groups
        ]
        return {"machine": self.machine, "verdict": self.verdict, "problems": list(self.problems), "groups": groups}


def judge(bindings: Iterable[Binding], machine: Machine, environ: Mapping[str, str]) -> Judgement:
    """Compare what all ranks got with the machine's record.

    Args:
        bindings: One per rank, in any order, with their threads.
        machine: Its record.
        environ: For the cores that oneCCL's workers are bound to.
    """
    groups = _alike(bindings)
    problems = [
        f"{problem} ({group})"
        for group in groups
        for check in CHECKS
        if (problem := check(group.ranks, machine, environ)) is not None
    ]
    return Judgement(machine.name, groups, tuple(problems))


def _alike(bindings: Iterable[Binding]) -> tuple[Alike, ...]:
    hosts: dict[str, list[Binding]] = {}
    for binding in bindings:
        hosts.setdefault(binding.host, []).append(binding)
    kinds: dict[tuple[Any, ...], list[tuple[Binding, ...]]] = {}
    for ranks in hosts.values():
        ordered = tuple(sorted(ranks, key=lambda binding: binding.local_rank))
        key = tuple(tuple(value for name, value in vars(rank).items() if name != "host") for rank in ordered)
        kinds.setdefault(key, []).append(ordered)
    return tuple(Alike(tuple(ranks[0].host for ranks in same), same[0]) for same in kinds.values())


def _row(rank: Binding) -> dict[str, Any]:
    row = {**asdict(rank), "cpus": format_cpu_list(rank.cpus), "numa": format_cpu_list(rank.numa)}
    del row["host"]
    return row


def _table(ranks: Sequence[Binding]) -> str:
    rows = [COLUMNS, *(_cells(rank) for rank in ranks)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    return "\n".join("  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _cells(rank: Binding) -> tuple[str, ...]:
    device_numa = "" if rank.device_numa is None else str(rank.device_numa)
    cpus, numa = format_cpu_list(rank.cpus), format_cpu_list(rank.numa)
    return (str(rank.local_rank), cpus, str(rank.cores), numa, str(rank.threads), rank.device, device_numa)
