# SPDX-License-Identifier: Apache-2.0
"""The schedulers by name."""

from __future__ import annotations

from hpc_dl.cluster.machine import Machine
from hpc_dl.errors import HpcDlError
from hpc_dl.jobs.pbs import Pbs
from hpc_dl.jobs.scheduler import Scheduler
from hpc_dl.jobs.slurm import Slurm

SCHEDULERS: dict[str, Scheduler] = {scheduler.name: scheduler for scheduler in (Slurm(), Pbs())}


def scheduler_of(machine: Machine) -> Scheduler:
    """The machine's scheduler; a machine without one is refused."""
    if machine.scheduler not in SCHEDULERS:
        remedy = "start the ranks directly (mpiexec -n 2 hpc-dl train NAME), or name one: --machine perlmutter"
        raise HpcDlError(f"a batch job on {machine.name}", "it has no scheduler", remedy)
    return SCHEDULERS[machine.scheduler]
