# SPDX-License-Identifier: Apache-2.0
"""A sweep at work: checks what it is going to start, starts it here or as jobs, and waits where asked to."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from hpc_dl.cluster.machine import Machine, Queue
from hpc_dl.errors import HpcDlError
from hpc_dl.jobs import sweep
from hpc_dl.jobs.local import OUTPUT, local_words, run_local
from hpc_dl.jobs.request import Request, complete
from hpc_dl.jobs.submit import Job, prepare, status, submit
from hpc_dl.jobs.words import command


@dataclass
class Study:
    """A sweep and where it runs."""

    folder: Path
    request: Request
    """What all runs have in common; nodes and folder are filled in."""
    machine: Machine
    points: list[sweep.Point]
    threads: int
    """On this machine, over its launcher, one run after the other, with so many CPU threads per rank; 0: as jobs."""
    finished: Callable[[Path], bool]
    check: Callable[[Request], None]
    environ: Mapping[str, str]
    asked: list[str]
    """The user's command, kept in each run's folder."""
    say: Callable[[str], None]

    @property
    def local(self) -> bool:
        """Without a scheduler?"""
        return self.threads > 0

    def states(self) -> list[sweep.Progress]:
        """Where each run is."""
        return [sweep.progress(point, self.finished, lambda job: status(job, self.environ)) for point in self.points]

    def commands(self) -> str:
        """What would be run for each point, without running it."""
        lines = []
        for state in self.states():
            request = self.request_of(state.point)
            words = local_words(request, self.machine) if self.local else self.job(request).words
            lines.append(f"{state.point.folder.name}  {state.state:<8}  {command(words)}")
        return "\n".join(lines)

    def run(self, wait: bool, poll_seconds: float) -> list[sweep.Progress]:
        """Start each missing run once; with `wait` stay until no job is left and no queue's limit holds one back."""
        states = self.states()
        for state in states:
            if state.state in ("missing", "failed"):
                self.check(self.request_of(state.point))
        sweep.keep_plan(self.folder, self.identity())
        tried: set[Path] = set()
        while True:
            started = [point for point in sweep.due(states, self.queue_of) if point.folder not in tried]
            for point in started:
                tried.add(point.folder)
                self.start(point)
            states = self.states()
            active = any(state.state in sweep.ACTIVE for state in states)
            if not started and not (wait and active):
                return states
            if wait and active:
                time.sleep(poll_seconds)
                states = self.states()

    def start(self, point: sweep.Point) -> None:
        """Start one run: to its end where it is local."""
        sweep.set_aside(point.folder)
        request = self.request_of(point)
        if self.local:
            self.say(f"{point.folder.name} ...")
            code = run_local(request, self.machine, self.threads, self.environ)
            if code:
                self.say(f"{point.folder.name} ended with status {code}: see {point.folder / OUTPUT}")
            return
        try:
            self.say(f"{point.folder.name}  job {submit(self.job(request), self.environ)[0]}")
        except HpcDlError as error:  # one size refused by the scheduler does not keep the others from running
            self.say(f"{point.folder.name}  {error}")

    def job(self, request: Request) -> Job:
        return prepare(request, self.machine, ["hpc-dl", "sweep", *self.asked])

    def request_of(self, point: sweep.Point) -> Request:
        return replace(self.request, nodes=point.nodes, run_folder=str(point.folder))

    def queue_of(self, nodes: int) -> Queue:
        """The queue a size goes to, for its limit on a user's jobs."""
        name = complete(replace(self.request, nodes=nodes), self.machine).queue
        queues = () if self.local else self.machine.queues
        return next((queue for queue in queues if queue.name == name), Queue())

    def identity(self) -> dict[str, object]:
        """What all runs of a folder share; another sweep there is refused."""
        request = complete(self.request, self.machine)
        where = "local" if self.local else self.machine.name
        train = list(self.request.payload.words)
        shared: dict[str, object] = {"train": train, "machine": where, "ranks_per_node": request.ranks_per_node}
        return {**shared, "threads": self.threads} if self.local else shared
