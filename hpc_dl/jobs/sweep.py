# SPDX-License-Identifier: Apache-2.0
"""A scaling study: the same training on several numbers of nodes, several times; only what is missing is started."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from hpc_dl.cluster.machine import Queue
from hpc_dl.errors import HpcDlError
from hpc_dl.jobs.local import OUTPUT
from hpc_dl.jobs.scheduler import Status
from hpc_dl.jobs.submit import RECORD, Submitted, submitted
from hpc_dl.runlog.records import LOG_NAME

PLAN = "sweep.json"
ACTIVE = ("queued", "running")


@dataclass(frozen=True)
class Point:
    """One run of the study."""

    folder: Path
    nodes: int
    repeat: int


class Progress(NamedTuple):
    """Where a run of the study is."""

    point: Point
    state: str
    """finished, queued, running, failed or missing."""
    detail: str = ""


def plan(folder: Path, nodes: Sequence[int], repeats: int) -> list[Point]:
    """All runs, each size once before any twice: a slow hour of the machine then hits more than one size.

    >>> [point.folder.name for point in plan(Path("s"), [1, 2], 2)]
    ['n00001-r1', 'n00002-r1', 'n00001-r2', 'n00002-r2']
    """
    if repeats < 1 or not nodes or min(nodes) < 1:
        raise HpcDlError(
            f"a sweep over {list(nodes)} nodes, {repeats} times", "nothing to run", "give numbers from 1 on"
        )
    sizes = sorted(set(nodes))
    return [
        Point(folder / f"n{size:05d}-r{repeat}", size, repeat) for repeat in range(1, repeats + 1) for size in sizes
    ]


def keep_plan(folder: Path, identity: Mapping[str, object]) -> None:
    """Note what the folder's sweep trains; a sweep of something else in the same folder is refused.

    More sizes or repeats may be added later: they are no part of the identity.
    """
    path = folder / PLAN
    if path.exists():
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise HpcDlError(f"sweep in {folder}", f"{PLAN} cannot be read: {error}", "remove it") from None
        changed = [name for name in identity if before.get(name) != json.loads(json.dumps(identity[name]))]
        if changed:
            was = ", ".join(f"{name} was {before.get(name)!r}" for name in changed)
            raise HpcDlError(f"sweep in {folder}", was, "name another --folder: runs that differ cannot be compared")
        return
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(dict(identity), indent=2) + "\n", encoding="utf-8")


def progress(point: Point, finished: Callable[[Path], bool], ask: Callable[[Submitted], Status]) -> Progress:
    """Where a run is.

    Args:
        point: The run.
        finished: Does the log of a folder say that training came to its end?
        ask: The scheduler's word on a job.
    """
    if finished(point.folder):
        return Progress(point, "finished")
    if not (point.folder / RECORD).exists():
        tried = any((point.folder / name).exists() for name in (LOG_NAME, OUTPUT))
        return Progress(point, "failed", _fault(point.folder)) if tried else Progress(point, "missing")
    job = submitted(point.folder)[-1]
    status = ask(job)
    if status.state in ACTIVE:
        return Progress(point, status.state, f"job {job.job_id} {status.detail}".rstrip())
    return Progress(point, "failed", f"job {job.job_id} ended ({status.raw}), {_fault(point.folder)}")


def _fault(folder: Path) -> str:
    return "its training did not come to its end" if (folder / LOG_NAME).exists() else f"it left no {LOG_NAME}"


def due(states: Iterable[Progress], queue_of: Callable[[int], Queue]) -> list[Point]:
    """The runs to start now: missing and failed ones, as far as the queues' limits on a user's jobs allow."""
    known = [(state, queue_of(state.point.nodes)) for state in states]
    jobs = Counter(queue.name for state, queue in known if state.state in ACTIVE)
    now = []
    for state, queue in known:
        full = 0 < queue.max_jobs <= jobs[queue.name]
        if state.state not in ("finished", *ACTIVE) and not full:
            jobs[queue.name] += 1
            now.append(state.point)
    return now


def set_aside(folder: Path) -> None:
    """Put log and checkpoints of a failed attempt under other names, so that the next attempt is a run of its own."""
    if (folder / LOG_NAME).exists():
        attempt = f"attempt-{sum(1 for _ in folder.glob('attempt-*.jsonl')) + 1}"
        (folder / LOG_NAME).rename(folder / f"{attempt}.jsonl")
        if (folder / "checkpoints").exists():
            (folder / "checkpoints").rename(folder / f"{attempt}-checkpoints")


def table(states: Iterable[Progress]) -> str:
    """One line per run."""
    return "\n".join(f"{s.point.folder.name}  {s.state:<8}  {s.detail}".rstrip() for s in states)
