# SPDX-License-Identifier: Apache-2.0
"""Checks of how ranks are, or are going to be, started."""

from __future__ import annotations

from hpc_dl.cluster.rank import detect_rank
from hpc_dl.cluster.variables import EXPECTED_WORLD_SIZE
from hpc_dl.doctor.finding import Finding, Verdict
from hpc_dl.doctor.scene import Scene
from hpc_dl.errors import HpcDlError

SITE_LAUNCHERS = {"srun": "srun", "pals": "the site's mpiexec (PALS)"}


def check_rank(scene: Scene) -> Finding | None:
    """The rank variables of the environment make sense."""
    try:
        record = detect_rank(scene.environ)
    except HpcDlError as error:
        return Finding("rank", "fail", f"{error.asked}: {error.found}", error.remedy)
    size = "an unknown number" if record.world_size is None else str(record.world_size)
    if record.launcher == "single":
        return Finding("rank", "ok", "one process, no launcher")
    local = f"local rank {record.local_rank} of {record.local_world_size}"
    return Finding("rank", "ok", f"started by {record.launcher}: rank {record.rank} of {size}, {local}")


def check_expected_world_size(scene: Scene) -> Finding | None:
    """As many ranks as the job script expects."""
    expected = scene.value(EXPECTED_WORLD_SIZE)
    if not expected:
        return None
    if not expected.isdigit() or int(expected) < 1:
        return Finding("world size", "fail", f"{EXPECTED_WORLD_SIZE}={expected} is no number of ranks", "correct it")
    if scene.under_launcher or expected == "1" or (scene.in_job and not scene.in_step):
        return None
    found = f"{EXPECTED_WORLD_SIZE}={expected}, but this process was started alone"
    return Finding("world size", "fail", found, f"start it by mpiexec or srun, or unset {EXPECTED_WORLD_SIZE}")


def check_batch_shell(scene: Scene) -> Finding | None:
    """Slurm's batch shell has SLURM_PROCID=0 and SLURM_NTASKS=N: a program that believes them waits for ever."""
    tasks = scene.value("SLURM_NTASKS")
    if "SLURM_JOB_ID" not in scene.environ or scene.in_step or scene.under_launcher or tasks in ("", "1"):
        return None
    found = f"this is the job's shell, not one of its {tasks} tasks"
    return Finding("batch shell", "warn", found, f"start training, and this check, by `srun -n {tasks} ...`")


def check_mpiexec(scene: Scene) -> Finding | None:
    """The mpiexec on PATH is the one that can start the ranks here; under a launcher, that was the right one."""
    site = SITE_LAUNCHERS.get(scene.machine.launcher)
    if scene.under_launcher:
        if site is None or scene.launcher not in ("hydra", "openmpi"):
            return None  # a launcher of another MPI is refused at the start
        found = f"the ranks were started by the mpiexec of {scene.launcher}, not by {site}"
        return Finding("mpiexec", "fail" if scene.machine.launcher == "pals" else "warn", found, _SITE_FIRST)
    if scene.machine.launcher == "srun":
        return None
    if scene.mpiexec is None:
        verdict: Verdict = "fail" if scene.in_job else "warn"
        return Finding("mpiexec", verdict, "there is no mpiexec on PATH", "load the site's MPI, or install hpc_dl[mpi]")
    own = scene.prefix / "bin" / "mpiexec"
    if site is not None and scene.mpiexec == own:
        found = f"{scene.mpiexec} of the Python environment hides {site}"
        return Finding("mpiexec", "fail", found, _SITE_FIRST)
    if site is None and own.exists() and scene.mpiexec != own:
        found = f"{scene.mpiexec} comes before the mpiexec of the Python environment, {own}"
        remedy = "put the environment's bin folder first on PATH: another MPI's mpiexec starts separate worlds"
        return Finding("mpiexec", "fail", found, remedy)
    return Finding("mpiexec", "ok", str(scene.mpiexec))


_SITE_FIRST = "start with the site's launcher: put the environment's bin folder behind the site's on PATH"

CHECKS = (check_rank, check_expected_world_size, check_batch_shell, check_mpiexec)
