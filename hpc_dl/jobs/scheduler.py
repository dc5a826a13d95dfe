# SPDX-License-Identifier: Apache-2.0
"""What a scheduler is to hpc_dl: text for it and text from it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from hpc_dl.cluster.machine import Machine
from hpc_dl.jobs.request import Request


@dataclass(frozen=True)
class Status:
    """Where a job is."""

    state: str
    """queued, running, finished or failed."""
    raw: str
    """As the scheduler calls it."""
    detail: str = ""
    """Its reason or comment: explains most waits and holds."""
    exit_code: int | None = None

    @property
    def over(self) -> bool:
        return self.state in ("finished", "failed")


@dataclass(frozen=True)
class JobShell:
    """What a script asks the scheduler in the job, as bash."""

    enter: str
    """Command that goes to the folder of submission, where the job does not start there."""
    train: str
    """Line that takes what to train from outside."""
    how: str
    """How a script that leaves this open is submitted; `{file}` is its name."""
    label: str
    """Name and number of the job."""
    ranks_per_node: str
    """`%d` is the number the script was rendered for."""
    hosts: str
    """Command that prints each host of the job once."""
    nodes_granted: str
    """The number of nodes by another source, to compare."""
    devices: str
    """Number of devices granted on the first node; empty where the scheduler does not tell."""
    port: str
    """What the port of the meeting place is computed from."""
    again: str
    """Command that makes the scheduler start this job again; empty where a job cannot ask for it."""


class Scheduler(ABC):
    """One scheduler; no method runs anything."""

    name: ClassVar[str]
    suffix: ClassVar[str]
    """Of its scripts' names."""
    directive: ClassVar[str]
    """What a line of directives begins with."""
    shell: ClassVar[JobShell]

    @abstractmethod
    def directives(self, request: Request, machine: Machine) -> list[str]:
        """The options at the top of the script, without the marker; refuses what a directive cannot carry."""

    @abstractmethod
    def submit_words(self, script: str, after: str = "") -> list[str]:
        """The command that submits a script; run in the run's folder, where the job's output goes.

        Args:
            script: Its file.
            after: The number of a job that has to be over first, however it ends.
        """

    @abstractmethod
    def job_end(self, request: Request, machine: Machine) -> str:
        """Command of the script that prints when the job is going to be ended, in seconds since 1970."""

    @abstractmethod
    def read_job_id(self, output: str) -> str:
        """The job's number from what the submit command printed."""

    @abstractmethod
    def status_words(self, job_id: str) -> list[list[str]]:
        """Commands to ask in turn until one knows the job."""

    @abstractmethod
    def read_status(self, output: str) -> Status | None:
        """The status from what such a command printed; None where it knows nothing of the job."""

    @abstractmethod
    def cancel_words(self, job_id: str) -> list[str]:
        """The command that ends the job."""

    @abstractmethod
    def refuses_folder(self, path: str) -> str:
        """What in the path of a folder keeps jobs from being submitted there; empty where nothing does."""
