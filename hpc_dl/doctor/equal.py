# SPDX-License-Identifier: Apache-2.0
"""Are the ranks alike, and each in a place of its own?"""

from __future__ import annotations

import hashlib
import platform
from collections import Counter
from collections.abc import Mapping

import torch

from hpc_dl import __version__
from hpc_dl.comm.arrivals import Arrival
from hpc_dl.devices.binding import Binding, format_cpu_list
from hpc_dl.devices.binding_report import judge
from hpc_dl.doctor.finding import Finding
from hpc_dl.doctor.scene import Scene
from hpc_dl.session import Session

COMPARED = ("CCL_", "FI_", "NCCL_", "MPICH_", "MPIR_", "OMP_", "ZE_FLAT", "TORCH_", "HOROVOD_", "UCX_", "GLOO_")
PER_RANK = ("HOROVOD_RANK", "HOROVOD_LOCAL", "HOROVOD_CROSS", "HOROVOD_HOSTNAME", "GLOO_SOCKET_IFNAME", "TORCHELASTIC")
SHOWN = 4


def check_places(session: Session, scene: Scene) -> list[Finding]:
    """The comparison at the start has passed: say what it saw."""
    if session.arrivals is None:
        return []
    hosts = Counter(arrival.place.host for arrival in session.arrivals)
    per_host = f"{min(hosts.values())}" + (f" to {max(hosts.values())}" if len(set(hosts.values())) > 1 else "")
    devices = sum(arrival.place.device is not None for arrival in session.arrivals)
    own = f", {devices} devices, each used once" if devices else ""
    world = f"one world of {session.world_size} ranks, started by {session.record.launcher}"
    return [Finding("worlds", "ok", f"{world}, {len(hosts)} hosts, {per_host} per host{own}")]


def check_environments(session: Session, scene: Scene) -> list[Finding]:
    """The same software and the same settings of the communication libraries on all ranks."""
    facts = {
        "Python": platform.python_version(),
        "torch": torch.__version__,
        "hpc_dl": __version__,
        **{name: value for name, value in sorted(scene.environ.items()) if _compared(name)},
    }
    digest = hashlib.sha256(repr(facts).encode()).hexdigest()
    digests = session.engine.gather(digest)
    alike = session.engine.broadcast(digests is not None and len(set(digests)) == 1)
    if alike:
        text = f"Python, torch, hpc_dl and {len(facts) - 3} variables are the same on all ranks"
        return [Finding("environments", "ok", text)] if session.rank == 0 else []
    gathered = session.engine.gather(facts)
    if gathered is None or session.arrivals is None:
        return []
    return [Finding("environments", "fail", _difference(gathered, session.arrivals), _EQUAL_REMEDY)]


_EQUAL_REMEDY = (
    "make the environment reach all nodes: --envall (PALS, Hydra), -x NAME (Open MPI), --export=ALL (srun), "
    "and load modules in the job script, not in one node's profile"
)


def _compared(name: str) -> bool:
    return name.startswith(COMPARED) and not name.startswith(PER_RANK)


def _difference(gathered: list[Mapping[str, str]], arrivals: list[Arrival]) -> str:
    """The names whose values differ, and the first rank that holds a rare value."""
    texts = []
    for name in sorted({name for facts in gathered for name in facts}):
        values = Counter(facts.get(name, "(unset)") for facts in gathered)
        if len(values) > 1:
            usual = values.most_common(1)[0][0]
            odd = next(rank for rank, facts in enumerate(gathered) if facts.get(name, "(unset)") != usual)
            value = gathered[odd].get(name, "(unset)")
            texts.append(f"{name} is {usual}, but {value} on rank {odd} ({arrivals[odd].place.host})")
    more = f"; and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    return "; ".join(texts[:SHOWN]) + more


def check_binding(session: Session, scene: Scene) -> list[Finding]:
    """What the ranks got, judged by the machine's record; and no more ranks on a host than it has CPUs for them."""
    if session.arrivals is None:
        return []
    bindings = [arrival.binding for arrival in session.arrivals]
    hosts: dict[str, list[Binding]] = {}
    for binding in bindings:
        hosts.setdefault(binding.host, []).append(binding)
    crowded = [Finding("binding", "fail", text, _BIND_REMEDY) for local in hosts.values() if (text := _crowded(local))]
    if crowded:
        return crowded[:SHOWN]
    judgement = judge(bindings, scene.machine, scene.environ)
    if judgement.problems:
        return [Finding("binding", "warn", problem, _BIND_REMEDY) for problem in judgement.problems[:SHOWN]]
    return [Finding("binding", "ok", judgement.verdict)]


_BIND_REMEDY = (
    "give each rank its cores: srun -c N --cpu-bind=cores, mpiexec --cpu-bind list:... (PALS), "
    "mpirun --bind-to none with HPC_DL_CPU_BIND; `hpc-dl machines` shows the machine's list"
)


def _crowded(local: list[Binding]) -> str:
    """More ranks than CPUs, on a host or on one of its CPUs."""
    host, cpus = local[0].host, frozenset().union(*(binding.cpus for binding in local))
    if len(cpus) < len(local):
        return f"{len(local)} ranks on {host} share {len(cpus)} CPUs ({format_cpu_list(cpus)})"
    for mask, count in Counter(binding.cpus for binding in local).items():
        if count > len(mask):
            return f"{count} ranks on {host} are bound to the same CPUs, {format_cpu_list(mask)}"
    return ""
