# SPDX-License-Identifier: Apache-2.0
"""A run on this machine, without a scheduler: the launcher's words, run to their end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from hpc_dl.cluster.machine import Machine
from hpc_dl.cluster.variables import EXPECTED_WORLD_SIZE, MACHINE, RUN_FOLDER
from hpc_dl.errors import HpcDlError
from hpc_dl.jobs.launch_command import Launch, launch_words
from hpc_dl.jobs.request import Request, complete
from hpc_dl.jobs.words import command

OUTPUT = "output.log"
TIMED_OUT = 124


def local_words(request: Request, machine: Machine) -> list[str]:
    """The command that starts the ranks here; a node of the request is a group of ranks of this machine."""
    request = complete(request, machine)
    ranks = request.nodes * (request.ranks_per_node or 1)
    payload = request.payload
    program = tuple(sys.executable if word == "python" else word for word in payload.program) + payload.words
    launcher = "hydra" if machine.launcher in ("srun", "pals") else machine.launcher
    return launch_words(launcher, "none", Launch(program=program, ranks=ranks, ranks_per_node=ranks))


def run_local(request: Request, machine: Machine, threads: int, environ: Mapping[str, str]) -> int:
    """Run in the request's run folder and return the exit status; what the ranks say goes to a file there.

    A run that outlasts the request's minutes is ended, with all its ranks. `threads` of the CPU are for each rank: left
    to itself it takes its share of the cores, and a sweep would compare threads instead of ranks.
    """
    folder = Path(request.run_folder)
    folder.mkdir(parents=True, exist_ok=True)
    words = local_words(request, machine)
    for name, text in request.payload.files.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "command.txt").write_text(command(words) + "\n", encoding="utf-8", errors="surrogateescape")
    ranks = request.nodes * (complete(request, machine).ranks_per_node or 1)
    inside = {
        **environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), environ.get("PATH", "")]),
        RUN_FOLDER: str(folder),
        MACHINE: request.machine or machine.name,
        EXPECTED_WORLD_SIZE: str(ranks),
        "OMP_NUM_THREADS": str(threads),
    }
    with (folder / OUTPUT).open("wb") as output:
        return _run(words, request, inside, output.fileno())


def _run(words: list[str], request: Request, environ: Mapping[str, str], output: int) -> int:
    cwd = request.work_folder or None
    try:
        ranks = subprocess.Popen(
            words, cwd=cwd, env=dict(environ), stdout=output, stderr=output, start_new_session=True
        )
    except FileNotFoundError:
        raise HpcDlError(f"launcher {words[0]}", "no such command here", "install mpich (pip install mpich)") from None
    try:
        return ranks.wait(request.minutes * 60)
    except subprocess.TimeoutExpired:
        return TIMED_OUT
    finally:
        if ranks.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(ranks.pid, signal.SIGTERM)
            try:
                ranks.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(ranks.pid, signal.SIGKILL)
                ranks.wait()
