# SPDX-License-Identifier: Apache-2.0
"""What each launcher exports to its ranks: one table row per launcher, the innermost first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hpc_dl.cluster.variables import EXPECTED_WORLD_SIZE

Environ = Mapping[str, str]
FIELDS = ("node", "rank", "world_size", "local_rank", "local_world_size")
COUNT_PER_NODE = "SLURM_STEP_TASKS_PER_NODE"
"""The one variable that holds a list, tasks of every node ("4(x2),3"), and is read at the index of the node."""


@dataclass(frozen=True)
class Launcher:
    """One launcher."""

    name: str
    started: Callable[[Environ], bool]
    """Did this launcher start the process with that environment?"""
    variables: Mapping[str, tuple[str, ...]]
    """Per field: the variable it is read from, then aliases that must agree where they are set."""
    host: str = ""
    """Variable with the launcher's name for the node."""
    optional: tuple[str, ...] = ("node",)
    """Fields that may be missing."""


def in_slurm_step(environ: Environ) -> bool:
    """Started by srun? The batch shell and the shells of salloc look like rank 0 of N and are none.

    The numbers are Slurm's interactive, batch, extern and pending pseudo steps (slurm.h, SLURM_BATCH_SCRIPT and
    neighbours, 0xfffffffa to 0xfffffffd).
    """
    step = environ.get("SLURM_STEP_ID", "")
    return step not in ("", "4294967290", "4294967291", "4294967292", "4294967293")


_TORCH = {
    "rank": ("RANK",),
    "world_size": ("WORLD_SIZE",),
    "local_rank": ("LOCAL_RANK",),
    "local_world_size": ("LOCAL_WORLD_SIZE",),
}


def _any(*names: str) -> Callable[[Environ], bool]:
    return lambda environ: any(name in environ for name in names)


def _torchrun(environ: Environ) -> bool:
    return "TORCHELASTIC_RUN_ID" in environ or all(names[0] in environ for names in _TORCH.values())


def _pals(*names: str) -> Callable[[Environ], bool]:
    return lambda environ: not in_slurm_step(environ) and _any(*names)(environ)


# The first row that says "I started it" speaks alone. The order is that of nesting:
# - horovodrun and torchrun fork their ranks on a node that srun or mpiexec gave them, whose variables are inherited.
#   All four of torch's names, set by hand, count like torchrun. Some of them are aliases in the rows below (NERSC's
#   recipe sets them from Slurm's in each task) and are refused as partial where no launcher is found.
# - PALS: the PMI_SIZE of Aurora is empty or a count per node, so PMI_SIZE is believed only of Cray PMI (Polaris), told
#   by its local rank. Both stand before Hydra because wrappers on Aurora export Hydra's local names for oneCCL. Slurm's
#   cray_shasta plugin (Perlmutter) sets PALS_* and PMI_* too: in a step Slurm speaks.
# - Open MPI's mpirun and Hydra's mpiexec start their daemons by srun inside a Slurm allocation: SLURM_PROCID is then
#   the daemon's. Slurm's own pmi2 plugin sets PMI_RANK as well, but not Hydra's local rank.
# - A PMIx or PMI rank alone has no local rank and is refused: dividing would be wrong under cyclic placement.
LAUNCHERS = (
    Launcher(
        "horovod",
        _any("HOROVOD_RANK", "HOROVOD_SIZE", "HOROVOD_LOCAL_RANK", "HOROVOD_LOCAL_SIZE"),
        {
            "rank": ("HOROVOD_RANK",),
            "world_size": ("HOROVOD_SIZE",),
            "local_rank": ("HOROVOD_LOCAL_RANK",),
            "local_world_size": ("HOROVOD_LOCAL_SIZE",),
        },
        host="HOROVOD_HOSTNAME",
    ),
    Launcher("torchrun", _torchrun, {**_TORCH, "node": ("GROUP_RANK",)}),
    Launcher(
        "cray-pmi",
        _pals("PMI_LOCAL_RANK", "PMI_LOCAL_SIZE"),
        {
            "rank": ("PMI_RANK", "PALS_RANKID", "RANK"),
            "world_size": ("PMI_SIZE", "WORLD_SIZE"),
            "local_rank": ("PMI_LOCAL_RANK", "PALS_LOCAL_RANKID", "LOCAL_RANK"),
            "local_world_size": ("PMI_LOCAL_SIZE", "PALS_LOCAL_SIZE", "LOCAL_WORLD_SIZE"),
            "node": ("PALS_NODEID",),
        },
    ),
    Launcher(
        "pals",
        _pals("PALS_RANKID", "PALS_LOCAL_RANKID"),
        {
            "rank": ("PALS_RANKID", "PMIX_RANK", "PMI_RANK", "RANK"),
            "world_size": (EXPECTED_WORLD_SIZE, "WORLD_SIZE"),
            "local_rank": ("PALS_LOCAL_RANKID", "LOCAL_RANK"),
            "local_world_size": ("PALS_LOCAL_SIZE", "LOCAL_WORLD_SIZE"),
            "node": ("PALS_NODEID",),
        },
        optional=("node", "world_size"),
    ),
    Launcher(
        "openmpi",
        _any("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
        {
            "rank": ("OMPI_COMM_WORLD_RANK", "PMIX_RANK", "RANK"),
            "world_size": ("OMPI_COMM_WORLD_SIZE", "WORLD_SIZE"),
            "local_rank": ("OMPI_COMM_WORLD_LOCAL_RANK", "LOCAL_RANK"),
            "local_world_size": ("OMPI_COMM_WORLD_LOCAL_SIZE", "LOCAL_WORLD_SIZE"),
        },
        host="PMIX_HOSTNAME",
    ),
    Launcher(
        "hydra",
        _any("MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
        {
            "rank": ("PMI_RANK", "RANK"),
            "world_size": ("PMI_SIZE", "WORLD_SIZE"),
            "local_rank": ("MPI_LOCALRANKID", "LOCAL_RANK"),
            "local_world_size": ("MPI_LOCALNRANKS", "LOCAL_WORLD_SIZE"),
        },
        host="PMI_HOSTNAME",
    ),
    Launcher(
        "slurm",
        in_slurm_step,
        {
            "rank": ("SLURM_PROCID", "PMI_RANK", "PMIX_RANK", "PALS_RANKID", "RANK"),
            "world_size": ("SLURM_STEP_NUM_TASKS", "PMI_SIZE", "WORLD_SIZE"),
            "local_rank": ("SLURM_LOCALID", "PMI_LOCAL_RANK", "PALS_LOCAL_RANKID", "LOCAL_RANK"),
            "local_world_size": (COUNT_PER_NODE, "PMI_LOCAL_SIZE", "LOCAL_WORLD_SIZE"),
            "node": ("SLURM_NODEID", "PALS_NODEID"),
        },
        host="SLURMD_NODENAME",
        optional=(),
    ),
    Launcher("pmix", _any("PMIX_RANK"), {"rank": ("PMIX_RANK",)}),
    Launcher("pmi", _any("PMI_RANK", "PMI_SIZE"), {"rank": ("PMI_RANK",), "world_size": ("PMI_SIZE",)}),
    Launcher("environment", _any(*(names[0] for names in _TORCH.values())), _TORCH),
)
