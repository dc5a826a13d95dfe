# SPDX-License-Identifier: Apache-2.0
"""What the checks look at, gathered in one value: the environment, the machine's record, the Python, the folders."""

from __future__ import annotations

import importlib.metadata
import re
import resource
import shutil
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hpc_dl.cluster import machines
from hpc_dl.cluster.hosts import unique_hosts
from hpc_dl.cluster.launchers import in_slurm_step
from hpc_dl.cluster.machine import Machine
from hpc_dl.cluster.rank import RankRecord

PACKAGES = ("torch", "horovod", "mpi4py", "intel-extension-for-pytorch", "oneccl-bind-pt", "wandb")


@dataclass(frozen=True)
class Scene:
    """One process's place, as read at the start; tests build it from values."""

    environ: Mapping[str, str]
    machine: Machine
    folder: Path
    """Where a run would write its log and checkpoints."""
    engine: str = "auto"
    device: str = "auto"
    python: Path = Path(sys.executable)
    prefix: Path = Path(sys.prefix)
    host: str = ""
    packages: Mapping[str, str] = field(default_factory=dict)
    """Installed ones of `PACKAGES`, with their versions; nothing is imported to know them."""
    mpiexec: Path | None = None
    """First on PATH."""
    open_files: tuple[int, int] = (1024, 1024)
    """Soft and hard limit of file descriptors."""
    free_bytes: Mapping[Path, int] = field(default_factory=dict)
    """Free space by folder."""
    launcher: str = "single"
    """What started this process."""
    writes: bool = True
    """Is this the process that writes the run's files? Under a launcher, rank 0."""

    @property
    def under_launcher(self) -> bool:
        """One of several ranks."""
        return self.launcher != "single"

    @property
    def in_job(self) -> bool:
        """Inside a batch job, on its nodes."""
        return "PBS_JOBID" in self.environ or "SLURM_JOB_ID" in self.environ

    @property
    def in_step(self) -> bool:
        """A task of srun."""
        return in_slurm_step(self.environ)

    @property
    def nodes(self) -> int:
        """Nodes of the job, 1 where there is none."""
        if (count := self.environ.get("SLURM_JOB_NUM_NODES", "")).isdigit():
            return int(count)
        try:
            return len(unique_hosts(Path(self.environ["PBS_NODEFILE"]).read_text().splitlines())) or 1
        except (KeyError, OSError):
            return 1

    @property
    def temporary(self) -> Path:
        """Folder of temporary files."""
        return Path(self.environ.get("TMPDIR") or "/tmp")

    def value(self, name: str) -> str:
        """A variable's value, empty where it is not set."""
        return self.environ.get(name, "").strip()


def look(environ: Mapping[str, str], record: RankRecord | None, folder: Path, engine: str, device: str) -> Scene:
    """Read the scene of this process, whose rank record is None where its variables contradict each other."""
    machine = machines.find(environ)
    mpiexec = shutil.which("mpiexec", path=environ.get("PATH"))
    temporary = Path(environ.get("TMPDIR") or "/tmp")
    return Scene(
        environ=environ,
        machine=machine,
        folder=folder,
        engine=engine,
        device=device,
        host=socket.gethostname(),
        packages=_installed(),
        mpiexec=Path(mpiexec) if mpiexec else None,
        open_files=resource.getrlimit(resource.RLIMIT_NOFILE),
        free_bytes={place: shutil.disk_usage(place).free for place in {temporary, Path.home()} if place.is_dir()},
        launcher=record.launcher if record is not None else "single",
        writes=record is None or record.rank == 0,
    )


def _installed() -> dict[str, str]:
    names = {re.sub(r"[-_.]+", "-", name).lower() for name in PACKAGES}
    found = {}
    for name in sorted(names):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
