# SPDX-License-Identifier: Apache-2.0
"""What can be wrong with the binding of a host's ranks: one small function each, in the table `CHECKS`.

A check gets the ranks of one host in order of local rank, the machine's record and the environment, and returns what is
wrong, or None.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

from hpc_dl.cluster.machine import Machine
from hpc_dl.devices.binding import Binding
from hpc_dl.devices.threads import parse_cpu_list

Ranks = Sequence[Binding]
Check = Callable[[Ranks, Machine, Mapping[str, str]], str | None]


def wrong_device(ranks: Ranks, machine: Machine, environ: Mapping[str, str]) -> str | None:
    """Computing on the CPU of a machine with devices."""
    if machine.device != "cpu" and ranks[0].device == "cpu":
        return f"computes on the CPU, though a node has {machine.node.devices} {machine.device} devices"
    return None


def idle_devices(ranks: Ranks, machine: Machine, environ: Mapping[str, str]) -> str | None:
    """Fewer ranks than devices."""
    idle = machine.node.devices - len(ranks)
    if ranks[0].device == "cpu" or idle <= 0:
        return None
    return f"{idle} of {machine.node.devices} devices are idle"


def more_threads_than_cores(ranks: Ranks, machine: Machine, environ: Mapping[str, str]) -> str | None:
    """Threads that must take turns."""
    busy = [rank for rank in ranks if rank.threads > rank.cores]
    return _about(busy, lambda rank: f"has {rank.threads} threads on {rank.cores} core{'s' * (rank.cores > 1)}")


def shared_cpus(ranks: Ranks, machine: Machine, environ: Mapping[str, str]) -> str | None:
    """Ranks that may run on each other's CPUs, on a machine whose record binds them."""
    if not machine.ranks.cpu_bind:
        return None
    sharing = [rank for rank in ranks if any(rank.cpus & other.cpus for other in ranks if other is not rank)]
    return _about(sharing, lambda rank: f"may run on other ranks' CPUs ({_advice(machine)})")


def reserved_cores(ranks: Ranks, machine: Machine, environ: Mapping[str, str]) -> str | None:
    """CPUs the system keeps for itself."""
    reserved = set(machine.ranks.reserved_cores)
    guilty = [rank for rank in ranks if rank.cpus & reserved]
    listed = ", ".join(map(str, sorted(reserved)))
    return _about(guilty, lambda rank: f"may run on CPUs that the system keeps, {listed} ({_advice(machine)})")


def too_few_cpus(ranks: Ranks, machine: Machine, environ: Mapping[str, str]) -> str | None:
    """Fewer CPUs than the record gives a rank: many launchers give one core where they are asked for nothing."""
    wanted = machine.ranks.threads
    if bind := machine.cpu_bind():
        wanted = min((len(parse_cpu_list(cores)) for cores in bind.cores), default=0)
    short = [rank for rank in ranks if len(rank.cpus) < wanted]
    return _about(short, lambda rank: f"has {len(rank.cpus)} of {wanted} CPUs ({_advice(machine)})")


def several_numa_nodes(ranks: Ranks, machine: Machine, environ: Mapping[str, str]) -> str | None:
    """A rank whose CPUs lie in more NUMA nodes than its share of the host needs."""
    share = max(1, len({node for rank in ranks for node in rank.numa}) // len(ranks))
    wide = [rank for rank in ranks if len(rank.numa) > share]
    return _about(wide, lambda rank: f"reaches over {len(rank.numa)} NUMA nodes ({_advice(machine)})")


def far_device(ranks: Ranks, machine: Machine, environ: Mapping[str, str]) -> str | None:
    """A device on a NUMA node the rank may not run on: its copies cross the host."""
    far = [rank for rank in ranks if rank.device_numa is not None and rank.numa and rank.device_numa not in rank.numa]
    return _about(
        far,
        lambda rank: (
            f"runs on NUMA node {', '.join(map(str, rank.numa))}, its device {rank.device} hangs on {rank.device_numa}"
        ),
    )


def workers_on_rank_cpus(ranks: Ranks, machine: Machine, environ: Mapping[str, str]) -> str | None:
    """oneCCL's workers bound to CPUs of ranks."""
    try:
        workers = set(parse_cpu_list(environ.get("CCL_WORKER_AFFINITY", "")))
    except ValueError:  # "auto"
        return None
    disturbed = [rank for rank in ranks if rank.cpus & workers]
    return _about(disturbed, lambda rank: "shares CPUs with oneCCL's workers (CCL_WORKER_AFFINITY)")


CHECKS: tuple[Check, ...] = (
    wrong_device,
    idle_devices,
    more_threads_than_cores,
    shared_cpus,
    reserved_cores,
    too_few_cpus,
    several_numa_nodes,
    far_device,
    workers_on_rank_cpus,
)


def _about(ranks: Ranks, say: Callable[[Binding], str]) -> str | None:
    """What the first of these ranks has to complain about, in the name of all of them; None where there are none."""
    if not ranks:
        return None
    numbers = enumerate(rank.local_rank for rank in ranks)
    runs = [[n for _, n in run] for _, run in itertools.groupby(numbers, lambda pair: pair[1] - pair[0])]
    named = ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
    return f"local rank {named} {say(ranks[0])}"


def _advice(machine: Machine) -> str:
    word = machine.ranks.cpu_bind
    return f"--cpu-bind {word}" if word else "bind ranks to cores"
