# SPDX-License-Identifier: Apache-2.0
"""From a request to a job in the queue: the files of its folder, the scheduler's commands, what became of it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hpc_dl.cluster.machine import Machine
from hpc_dl.errors import HpcDlError
from hpc_dl.jobs import environment, script
from hpc_dl.jobs.request import Request, complete
from hpc_dl.jobs.scheduler import Status
from hpc_dl.jobs.schedulers import SCHEDULERS, scheduler_of
from hpc_dl.jobs.words import command
from hpc_dl.runlog.records import LOG_NAME

RECORD = "job.json"

PIECES = ("job.sh", "rank.sh")
COMMAND_SECONDS = 120


@dataclass(frozen=True)
class Job:
    """A job before it is submitted: everything `--dry-run` shows."""

    folder: Path
    files: Mapping[str, str]
    """Name below the folder, and text."""
    words: tuple[str, ...]
    """The command of submission, given in the folder."""
    script: str
    """Name of its script below the folder."""
    scheduler: str
    nodes: int
    chain: int = 1
    """So many jobs, each after the one before."""


def prepare(request: Request, machine: Machine, asked: Sequence[str]) -> Job:
    """The files and the command of a request; reads the pieces of launch/, writes nothing.

    Args:
        request: With its run_folder set.
        machine: Where it goes.
        asked: The words of the user's own command, to be kept.
    """
    scheduler = scheduler_of(machine)
    name = f"job{scheduler.suffix}"
    files: dict[str, str] = {}
    if request.machine.endswith(".toml"):  # kept with the run, so that its ranks read what the job was rendered from
        files["machine.toml"] = Path(request.machine).read_text(encoding="utf-8")
        request = replace(request, machine=str(Path(request.run_folder) / "machine.toml"))
    words = tuple(scheduler.submit_words(name))
    files[name] = script.render(request, machine)
    files.update(request.payload.files)
    files["command.txt"] = f"{command(asked)}\n# in this folder:\n{command(words)}\n"
    files.update({f"launch/{piece}": (pieces_folder() / piece).read_text(encoding="utf-8") for piece in PIECES})
    if machine.environment:
        files[f"launch/{machine.name}.sh"] = environment.render(machine)
    nodes = complete(request, machine).nodes
    return Job(Path(request.run_folder), files, words, name, scheduler.name, nodes, request.chain)


def refuse_used_folder(folder: Path) -> None:
    """A run's folder holds one run."""
    if (folder / LOG_NAME).exists():
        raise HpcDlError(f"run folder {folder}", f"it holds a {LOG_NAME} already", "name another --folder")


def submit(job: Job, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Write the job's files, hand its script to the scheduler, and return the job ids; the folder keeps them."""
    for name, text in job.files.items():
        path = job.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", errors="surrogateescape")
    scheduler = SCHEDULERS[job.scheduler]
    record = {"scheduler": job.scheduler, "nodes": job.nodes, "words": job.words}
    record["submitted"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    job_ids: list[str] = []
    for _ in range(job.chain):
        words = scheduler.submit_words(job.script, after=job_ids[-1]) if job_ids else job.words
        job_ids.append(scheduler.read_job_id(_run(words, job.folder, environ)))
        # After each: a chain that is refused in its middle can still be watched and cancelled.
        (job.folder / RECORD).write_text(json.dumps({"job_ids": job_ids, **record}, indent=2) + "\n", encoding="utf-8")
    return tuple(job_ids)


@dataclass(frozen=True)
class Submitted:
    """A job that was submitted from a folder."""

    folder: Path
    job_id: str
    scheduler: str


def submitted(folder: Path) -> list[Submitted]:
    """The jobs of a run's folder: one, or a chain."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return [Submitted(folder, job_id, record["scheduler"]) for job_id in record["job_ids"]]
    except (OSError, ValueError, KeyError) as error:
        remedy = "name the folder of a run that `hpc-dl job submit` or `hpc-dl sweep` submitted"
        raise HpcDlError(f"job of {folder}", f"no readable {RECORD} in it ({error})", remedy) from None


def status(job: Submitted, environ: Mapping[str, str]) -> Status:
    """What the scheduler says of it; "forgotten" where it knows the job no more."""
    scheduler = SCHEDULERS[job.scheduler]
    for words in scheduler.status_words(job.job_id):
        try:
            found = scheduler.read_status(_run(words, job.folder, environ))
        except HpcDlError:
            continue
        if found is not None:
            return found
    return Status("forgotten", "unknown", f"{job.scheduler} knows no job {job.job_id} any more: look at its log")


def cancel(job: Submitted, environ: Mapping[str, str]) -> None:
    """End the job, waiting or running."""
    _run(SCHEDULERS[job.scheduler].cancel_words(job.job_id), job.folder, environ)


def pieces_folder() -> Path:
    """Where the shell pieces of jobs lie: beside the package in the project, under share/ of an installed one."""
    for folder in (Path(__file__).parents[2] / "launch", Path(sys.prefix) / "share" / "hpc_dl" / "launch"):
        if (folder / PIECES[0]).is_file():
            return folder
    raise HpcDlError("a batch job", "the shell pieces of launch/ are not installed", "install hpc_dl again")


def _run(words: Sequence[str], folder: Path, environ: Mapping[str, str]) -> str:
    """What a scheduler's command printed; its refusal is quoted."""
    try:
        done = subprocess.run(
            words, cwd=folder, env=dict(environ), capture_output=True, text=True, timeout=COMMAND_SECONDS
        )
    except FileNotFoundError:
        raise HpcDlError(words[0], "no such command here", "run this on a login node of the machine") from None
    except subprocess.TimeoutExpired:
        raise HpcDlError(
            words[0], f"no answer in {COMMAND_SECONDS} s", "try again when the scheduler answers"
        ) from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip() or f"exit status {done.returncode}"
        raise HpcDlError(command(words), f"refused: {said}", "see the scheduler's message; change the request")
    return done.stdout
