# SPDX-License-Identifier: Apache-2.0
"""The header of a run's log: who ran what, where and how."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.nn import Parameter

from hpc_dl.cluster.rank import RankRecord
from hpc_dl.cluster.worlds import Place
from hpc_dl.runlog.records import Header
from hpc_dl.settings import Settings

if TYPE_CHECKING:
    from hpc_dl.comm.base import Engine
    from hpc_dl.devices.base import Device

HOSTS_SHOWN = 64
PACKAGES = ("hpc_dl", "torch", "numpy", "horovod", "mpi4py", "mpich", "intel_extension_for_pytorch")
JOB_VARIABLES = ("SLURM_JOB_ID", "PBS_JOBID")


def make_header(
    run_id: str,
    started: str,
    settings: Settings,
    parameters: Iterable[Parameter],
    record: RankRecord,
    places: Sequence[Place],
    engine: Engine,
    device: Device,
    environ: Mapping[str, str],
    binding: Mapping[str, Any],
    epoch_samples: int = 0,
    exchanged_by: str = "hpc_dl",
) -> Header:
    """The header; rank 0 calls it.

    Args:
        run_id: Name of the run's folder.
        started: ISO 8601, UTC.
        settings: The effective settings.
        parameters: Those of all models, for their size.
        record: Names the launcher.
        places: Where every rank is, in order of rank.
        engine: Started.
        device: Rank 0's.
        environ: For the scheduler's job.
        binding: What ranks got, summarised.
        epoch_samples: Training samples in an epoch, for costs per epoch.
        exchanged_by: Who averages the gradients.
    """
    trainable = [parameter for parameter in parameters if parameter.requires_grad]
    ranks_on = Counter(place.host for place in places)
    hosts = tuple(ranks_on)
    training = settings.training
    world_size = engine.world_size
    return Header(
        run_id=run_id,
        started=started,
        name=settings.name,
        model=settings.task.model,
        parameters=sum(parameter.numel() for parameter in trainable),
        gradient_bytes=sum(parameter.numel() * parameter.element_size() for parameter in trainable),
        world_size=world_size,
        nodes=len(hosts),
        ranks_per_node=(min(ranks_on.values()), max(ranks_on.values())),
        hosts=hosts if len(hosts) <= HOSTS_SHOWN else (*hosts[:HOSTS_SHOWN], "..."),
        local_batch=-(-training.global_batch // world_size) if training.global_batch else training.local_batch or 0,
        global_batch=training.global_batch or (training.local_batch or 0) * world_size,
        batch_rule="global" if training.global_batch else "local",
        engine=engine.name,
        engine_why=engine.why,
        backend=engine.backend,
        device=device.name,
        device_why=device.why,
        precision=settings.device.precision,
        launcher=record.launcher,
        job_id=next((environ[name] for name in JOB_VARIABLES if environ.get(name)), ""),
        warmup_steps=settings.log.warmup_steps,
        git_revision=git_revision(),
        versions=versions(),
        binding=dict(binding),
        settings=asdict(settings),
        epoch_samples=epoch_samples,
        exchanged_by=exchanged_by,
    )


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on; packages that are not installed are left out."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def git_revision(folder: Path | None = None) -> str:
    """Commit of the working tree (the current folder), with a plus where it was changed; empty outside of git."""

    def git(*words: str) -> str:
        try:
            done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, timeout=5, check=True)
        except (OSError, subprocess.SubprocessError):
            return ""
        return done.stdout.strip()

    revision = git("rev-parse", "--short=12", "HEAD")
    return revision + "+" if revision and git("status", "--porcelain", "--untracked-files=no") else revision
