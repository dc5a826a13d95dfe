# SPDX-License-Identifier: Apache-2.0
"""The site: its nodes, queues and rules, and the jobs it knows, all in one folder."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests import world

TESTS_PBS = Path(__file__).resolve().parent.parent

PROFILE = """\
export PATH=NODE_BIN:$PATH
module() {
    local command=$1 name
    shift
    [ "$command" = load ] || return 0
    for name; do
        case $name in
            KNOWN) export PATH=SOFTWARE:$PATH "LMOD_FAMILY_$(echo "${name%%/*}" | tr a-z A-Z)=${name%%/*}" ;;
            *) echo "Lmod has detected the following error: The following module(s) are unknown: \\"$name\\"" >&2
               return 1 ;;
        esac
    done
}
"""


@dataclass(frozen=True)
class Queue:
    """Limits of one queue, both ends included."""

    nodes: tuple[int, int] = (1, 10_624)
    walltime_seconds: tuple[int, int] = (1, 24 * 3600)


@dataclass(frozen=True)
class Site:
    """A PBS complex in a folder, with the rules of Aurora's debug queue."""

    folder: Path
    nodes: tuple[str, ...] = ("n1.hsn.cm.standin", "n2.hsn.cm.standin")
    server: str = "standin-pbs"
    queues: Mapping[str, Queue] = field(default_factory=lambda: {"debug": Queue((1, 2), (5 * 60, 3600))})
    default_queue: str = "debug"
    must_have: tuple[str, ...] = ("Account_Name", "walltime", "filesystems")
    job_resources: tuple[str, ...] = ("filesystems",)
    chunk_resources: tuple[str, ...] = ("system", "tier0", "tier1")
    ncpus: int = 208
    kill_delay_seconds: float = 10.0
    """From SIGTERM to SIGKILL at the end of the walltime; 10 is OpenPBS's default."""
    mpiexec: str = str(Path(sys.executable).with_name("mpiexec.hydra"))
    """Hydra, which starts the ranks of the stand-in for PALS."""
    modules: tuple[str, ...] = ("frameworks",)
    """What `module load` knows; each brings this Python and hpc-dl, and no mpiexec."""

    @property
    def login_bin(self) -> Path:
        """Commands of a login node."""
        return self.folder / "login-bin"

    @property
    def node_bin(self) -> Path:
        """Commands of a compute node: mpiexec, and no qstat (as on Aurora)."""
        return self.folder / "node-bin"

    @property
    def home(self) -> Path:
        """The user's home directory, where jobs start."""
        return self.folder / "home"

    def create(self) -> Site:
        """Write the folder; PATH with `login_bin` in front is all a user needs."""
        for name in ("jobs", "aux", "spool", "home", "login-bin", "node-bin"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        values = asdict(self) | {"folder": str(self.folder)}
        (self.folder / "site.json").write_text(json.dumps(values))
        hosts = "".join(f"127.0.0.1 {node} {node.split('.')[0]}\n" for node in self.nodes)
        (self.folder / "hosts").write_text("127.0.0.1 localhost\n::1 localhost\n" + hosts)
        for folder, commands in ((self.login_bin, ("qsub", "qstat", "qdel")), (self.node_bin, ("mpiexec",))):
            for command in commands:
                words = [sys.executable, str(TESTS_PBS / "run_standin.py"), command, str(self.folder)]
                (folder / command).write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
                (folder / command).chmod(0o755)
        self._write_modules()
        return self

    def _write_modules(self) -> None:
        """A `module` function for login shells, and the folder it puts on PATH."""
        software = self.folder / "software"
        software.mkdir(exist_ok=True)
        for command in ("python", "python3", "hpc-dl"):
            real = Path(sys.executable).with_name(command)
            (software / command).write_text(f'#!/bin/sh\nexec {shlex.quote(str(real))} "$@"\n')
            (software / command).chmod(0o755)
        known = "|".join(f"{name}|{name}/*" for name in self.modules) or "''"
        words = {"KNOWN": known, "SOFTWARE": shlex.quote(str(software)), "NODE_BIN": shlex.quote(str(self.node_bin))}
        profile = PROFILE
        for word, value in words.items():
            profile = profile.replace(word, value)
        (self.home / ".bash_profile").write_text(world.LOGIN_FILE + profile)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """One command at a time changes the jobs."""
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def jobs(self) -> dict[str, dict[str, Any]]:
        """All jobs by id, oldest first."""
        paths = sorted((self.folder / "jobs").glob("*.json"), key=lambda path: int(path.stem))
        return {job["id"]: job for job in (json.loads(path.read_text()) for path in paths)}

    def job(self, name: str) -> dict[str, Any] | None:
        """A job by "12", "12.server" or "12.server@server"."""
        sequence = name.split(".")[0].split("@")[0]
        path = self.folder / "jobs" / f"{sequence}.json"
        return json.loads(path.read_text()) if sequence.isdigit() and path.exists() else None

    def full_name(self, name: str) -> str:
        """A job's name with the server's."""
        return name if "." in name else f"{name}.{self.server}"

    def save(self, job: Mapping[str, Any]) -> None:
        """Write a job's record in one go."""
        path = self.folder / "jobs" / f"{job['sequence']}.json"
        part = path.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps(dict(job), indent=1))
        part.replace(path)

    def change(self, sequence: int, **values: Any) -> dict[str, Any]:
        """Change fields of a job's record."""
        with self.locked():
            job = self.job(str(sequence))
            if job is None:
                raise KeyError(sequence)
            job |= {**values, "mtime": time.time()}
            self.save(job)
            return job


def load_site(folder: str) -> Site:
    """The site of a folder that `create` wrote."""
    values = json.loads((Path(folder) / "site.json").read_text())
    queues = {
        name: Queue(**{key: tuple(value) for key, value in queue.items()}) for name, queue in values["queues"].items()
    }
    lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    return Site(**(values | lists | {"folder": Path(folder), "queues": queues}))


def enter_node(node: str, hosts_file: Path, own_network: bool = False) -> list[str]:
    """Words that run the words behind them on a node: a host name and a hosts file of its own (namespaces).

    A job gets a network of its own, which its ranks share: two jobs of number 1, of two test runs, would otherwise
    meet at the same port.
    """
    unshare = ["unshare", "--uts", "--mount", *(["--net"] if own_network else [])]
    if os.geteuid() != 0:
        unshare += ["--user", "--map-root-user"]
    network = "ip link set lo up && " if own_network else ""
    script = network + 'hostname "$1" && mount --bind "$2" /etc/hosts && shift 2 && exec "$@"'
    return [*unshare, "sh", "-c", script, "node", node.split(".")[0], str(hosts_file)]
