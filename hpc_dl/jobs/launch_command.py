# SPDX-License-Identifier: Apache-2.0
"""Words that start the ranks: one pure function per launcher, a launch in, a list of words out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from hpc_dl.jobs.words import Variable, Word


@dataclass(frozen=True)
class Launch:
    """What to start, how often and where."""

    program: tuple[Word, ...]
    """The command of every rank."""
    nodes: int | Variable = 1
    ranks: int | Variable = 1
    ranks_per_node: int | Variable = 1
    threads: int = 0
    """Hardware threads per rank; 0 leaves them to the launcher."""
    cpu_bind: str = ""
    """A word for srun's --cpu-bind."""
    cores: tuple[str, ...] = ()
    """Cores of each local rank, for launchers that take a list."""
    device_order: tuple[int, ...] = ()
    """Hide all devices but this one from each local rank (srun); empty: every rank sees all."""
    hosts_file: str | Variable = ""
    """Hydra and Open MPI outside of a scheduler: a file of host names."""
    exported: tuple[str, ...] = ()
    """Variables Open MPI is to pass on: it passes none to other nodes by itself."""


def srun(launch: Launch) -> list[Word]:
    """Slurm's own.

    -c is repeated: Slurm 22.05 and 23.02 ignore the job's (sbatch(1), SRUN_CPUS_PER_TASK). -K1 ends the step at the
    first failure; by default the others wait in their collective for ever. -l puts the rank before each line, -u sends
    lines at once.
    """
    words = ["srun", "-N", _text(launch.nodes), "-n", _text(launch.ranks)]
    words += ["--ntasks-per-node", _text(launch.ranks_per_node)]
    words += ["-c", str(launch.threads)] if launch.threads else []
    words += [f"--cpu-bind={launch.cpu_bind}"] if launch.cpu_bind else []
    words += [f"--gpu-bind=map_gpu:{_commas(launch.device_order)}"] if launch.device_order else []
    return [*words, "-K1", "-l", "-u", *launch.program]


def pals(launch: Launch) -> list[Word]:
    """PALS' mpiexec (Aurora, Polaris): the hosts are those of PBS_NODEFILE; it knows no option of Hydra or Open MPI.

    Options as in ALCF's user guides, running-jobs-aurora.md (2026-08-19).
    """
    words = ["mpiexec", "-n", _text(launch.ranks), "--ppn", _text(launch.ranks_per_node)]
    words += ["--envall", "--line-buffer", "--label"]
    words += ["--cpu-bind", "list:" + ":".join(launch.cores)] if launch.cores else []
    return [*words, *launch.program]


def hydra(launch: Launch) -> list[Word]:
    """mpiexec of MPICH and Intel MPI; finds Slurm's and PBS' hosts by itself; a failed rank ends the others."""
    words = ["mpiexec", "-n", _text(launch.ranks)]
    words += ["-ppn", _text(launch.ranks_per_node)] if launch.nodes != 1 else []
    words += ["-f", launch.hosts_file] if launch.hosts_file else []
    return [*words, "-l", *launch.program]


def openmpi(launch: Launch) -> list[Word]:
    """mpirun of Open MPI. Ranks bind themselves (launch/rank.sh): its own default binds to a single core."""
    words = ["mpirun", "-n", _text(launch.ranks)]
    words += ["-N", _text(launch.ranks_per_node)] if launch.nodes != 1 else []
    words += ["--hostfile", launch.hosts_file] if launch.hosts_file else []
    words += [word for name in launch.exported for word in ("-x", name)]
    return [*words, "--bind-to", "none", "--tag-output", *launch.program]


def torchrun(launch: Launch) -> list[Word]:
    """torch's own starter, once on every node; over several nodes they meet at MASTER_ADDR:MASTER_PORT."""
    words = ["torchrun", "--nproc-per-node", _text(launch.ranks_per_node)]
    if launch.nodes == 1:
        return [*words, "--standalone", "--no-python", *launch.program]
    words += ["--nnodes", _text(launch.nodes), "--rdzv-backend", "c10d", "--rdzv-endpoint", Variable("rendezvous")]
    return [*words, "--no-python", *launch.program]


def torchrun_in_slurm(launch: Launch) -> list[Word]:
    """torchrun started once per node by srun."""
    per_node = replace(launch, ranks=launch.nodes, ranks_per_node=1, threads=0, program=tuple(torchrun(launch)))
    return srun(replace(per_node, cpu_bind="none", device_order=()))


def none(launch: Launch) -> list[Word]:
    """One process, no launcher."""
    return list(launch.program)


LAUNCHERS: dict[str, Callable[[Launch], list[Word]]] = {
    "srun": srun,
    "pals": pals,
    "hydra": hydra,
    "openmpi": openmpi,
    "torchrun": torchrun,
    "none": none,
}


def launch_words(launcher: str, scheduler: str, launch: Launch) -> list[Word]:
    """The words of a launcher under a scheduler."""
    if launcher == "torchrun" and scheduler == "slurm":
        return torchrun_in_slurm(launch)
    return LAUNCHERS[launcher](launch)


def _text(number: int | Variable) -> Word:
    return number if isinstance(number, Variable) else str(number)


def _commas(numbers: Sequence[int]) -> str:
    return ",".join(map(str, numbers))
