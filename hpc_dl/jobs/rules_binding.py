# SPDX-License-Identifier: Apache-2.0
"""CPU binding: a list must give each rank cores of its own, of one socket, and none the system keeps."""

from __future__ import annotations

from collections.abc import Iterator

from hpc_dl.cluster.machine import Machine, Sourced

SRUN_WORDS = ("cores", "threads", "sockets", "ldoms", "rank", "none", "quiet", "verbose")
Fault = tuple[str, str, Sourced]
"""Rule, what was found, and the facts it stands in."""


def binding_faults(name: str, ranks: int, machine: Machine) -> Iterator[Fault]:
    """What is wrong with a binding for so many ranks on a node."""
    bind = machine.cpu_bind(name)
    if bind is None:
        lists = [bind.name for bind in machine.cpu_binds]
        words = SRUN_WORDS if machine.launcher == "srun" else ()
        if name and name not in words:
            yield f"bindings: {', '.join([*lists, *words])} or list:CORES:CORES:...", f"binding {name}", machine.ranks
        return
    try:
        cores = [expand(text) for text in bind.cores]
    except ValueError:
        yield "a list is written list:0-7:8-15, numbers and ranges", f"binding {name}", machine.ranks
        return
    if len(cores) < ranks:
        yield (
            f"each rank has an entry: {ranks} ranks per node",
            f"binding {name} with {len(cores)} entries",
            machine.ranks,
        )
    yield from _core_faults(cores, name, machine)


def expand(cores: str) -> set[int]:
    """The cores of one entry.

    >>> sorted(expand("4-6,9"))
    [4, 5, 6, 9]
    """
    numbers: set[int] = set()
    for piece in cores.split(","):
        first, dash, last = piece.partition("-")
        numbers |= set(range(int(first), int(last if dash else first) + 1))
    if not numbers:
        raise ValueError(cores)
    return numbers


def _core_faults(cores: list[set[int]], name: str, machine: Machine) -> Iterator[Fault]:
    node, ranks = machine.node, machine.ranks
    used = set().union(*cores) if cores else set()
    if kept := sorted(used & set(ranks.reserved_cores)):
        text = ", ".join(map(str, ranks.reserved_cores))
        yield f"cores {text} belong to the system", f"binding {name} uses {', '.join(map(str, kept))}", ranks
    if sum(map(len, cores)) > len(used):
        yield "two ranks share no core", f"binding {name} gives one core to two ranks", ranks
    if node.cores and (beyond := sorted(core for core in used if core >= node.cores * node.threads_per_core)):
        yield f"a node has {node.cores * node.threads_per_core} hardware threads", f"core {beyond[0]} in {name}", node
    if node.cores and node.sockets > 1:
        per_socket = node.cores // node.sockets
        for rank, own in enumerate(cores):
            if len({core % node.cores // per_socket for core in own}) > 1:
                yield "the cores of a rank are of one socket", f"binding {name}: local rank {rank} spans two", ranks
