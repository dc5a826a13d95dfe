# SPDX-License-Identifier: Apache-2.0
"""One batch job as asked for, and as completed from the machine's record."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from hpc_dl.cluster.machine import Machine, Queue
from hpc_dl.errors import HpcDlError
from hpc_dl.jobs.payload import Payload


@dataclass(frozen=True)
class Request:
    """One batch job. Empty texts and None stand for the machine's default."""

    payload: Payload = Payload()
    """What each rank runs."""
    machine: str = ""
    """HPC_DL_MACHINE of the job: the machine's name, or the path of its file; empty: the name."""
    name: str = "hpc_dl"
    account: str = ""
    nodes: int = 2
    ranks_per_node: int | None = None
    minutes: int = 30
    queue: str = ""
    constraint: str = ""
    file_systems: tuple[str, ...] = ()
    stack: str = ""
    python_environment: str = ""
    """Folder of a virtual environment, activated on top of the modules."""
    cpu_bind: str = ""
    one_device: bool = False
    """Each rank sees its own device only."""
    rerun: bool = False
    """The scheduler may start the job again, which then goes on from its newest checkpoint."""
    chain: int = 1
    """So many jobs, each waiting for the one before and going on from its newest checkpoint."""
    directives: tuple[str, ...] = ()
    """Further options of sbatch or qsub, such as --mail-user=me@site."""
    work_folder: str = ""
    """Where the ranks start, and relative paths; empty: the folder of submission."""
    run_folder: str = ""
    """Where log, settings and checkpoints go; empty: chosen in the job from its name and number."""

    @property
    def resumes(self) -> bool:
        """Does the training go on from a checkpoint where there is one?"""
        return self.rerun or self.chain > 1


def complete(request: Request, machine: Machine) -> Request:
    """The request with the machine's defaults filled in. The queue stays empty where none takes the request."""
    ranks = request.ranks_per_node or machine.ranks_per_node
    filled = replace(
        request,
        payload=request.payload.sized(request.nodes, request.nodes * ranks),
        ranks_per_node=ranks,
        constraint=request.constraint or next(iter(machine.job.constraints), ""),
        file_systems=request.file_systems or machine.job.file_systems,
        stack=request.stack or machine.stack().name,
        cpu_bind=request.cpu_bind or machine.ranks.cpu_bind,
    )
    if request.queue or not machine.queues:
        return filled
    fitting = (queue for queue in machine.queues if queue.chosen_for_you and takes(queue, filled))
    return replace(filled, queue=next((queue.name for queue in fitting), ""))


def takes(queue: Queue, request: Request) -> bool:
    """Is the request within the limits of the queue?"""
    within_nodes = queue.min_nodes <= request.nodes and not 0 < queue.max_nodes < request.nodes
    within_minutes = queue.min_minutes <= request.minutes and not 0 < queue.max_minutes < request.minutes
    devices = (request.ranks_per_node or 1) * request.nodes
    return within_nodes and within_minutes and not 0 < queue.max_devices < devices


def walltime(minutes: int) -> str:
    """Minutes as schedulers write them.

    >>> walltime(30), walltime(2880)
    ('00:30:00', '48:00:00')
    """
    return f"{minutes // 60:02d}:{minutes % 60:02d}:00"


def parse_walltime(text: str) -> int:
    """Minutes from "90", "1:30:00" or "36h"; seconds are rounded up.

    >>> parse_walltime("90"), parse_walltime("1:30:00"), parse_walltime("36h"), parse_walltime("0:00:30")
    (90, 90, 2160, 1)
    """
    if match := re.fullmatch(r"(\d+)(h|m|min)?", text.strip()):
        return int(match[1]) * (60 if match[2] == "h" else 1)
    if match := re.fullmatch(r"(\d+):(\d\d):(\d\d)", text.strip()):
        hours, minutes, seconds = map(int, match.groups())
        return hours * 60 + minutes + (seconds > 0)
    raise HpcDlError(f"time {text!r}", "not a time", "give minutes (90), hours (36h) or HH:MM:SS (1:30:00)")


def carried(value: str, what: str, pattern: str, allowed: str) -> str:
    """The value of a directive, refused where the scheduler could not carry it as it stands.

    Directives have no quoting that both schedulers share, so nothing is escaped: it is right, or it is refused.
    """
    if not re.fullmatch(pattern, value):
        raise HpcDlError(f"{what} {value!r}", "a directive of the job script cannot carry it", f"use {allowed}")
    return value


def carried_words(words: Iterable[str], what: str) -> list[str]:
    """Further directives: an option, at most one blank and a value, without anything a shell or parser would act on."""
    pattern = r"-{1,2}[A-Za-z][A-Za-z0-9-]*([ =][A-Za-z0-9_.,:+=/@%&*()\[\]-]+)?"
    return [
        carried(word, what, pattern, "an option and a value of letters, digits and _.,:+=/@%&*()[]-") for word in words
    ]
