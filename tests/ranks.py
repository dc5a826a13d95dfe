# SPDX-License-Identifier: Apache-2.0
"""Real ranks for tests: a program under mpiexec, with a time limit, and no process left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psutil

from tests.world import BIN


@dataclass(frozen=True)
class Ended:
    """A group of ranks that has ended."""

    code: int
    output: str
    """stdout and stderr, as they came."""
    seconds: float


def clean_environment(**extra: str) -> dict[str, str]:
    """The tests' environment, for ranks that share the cores."""
    return {**os.environ, "OMP_NUM_THREADS": "1", **extra}


def run(words: Sequence[str], timeout_seconds: float = 120, environ: Mapping[str, str] | None = None) -> Ended:
    """Run a command to its end; its descendants are gone afterwards, or the test fails."""
    begun = time.monotonic()
    process = subprocess.Popen(
        list(words),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=dict(environ or clean_environment()),
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=timeout_seconds)
    except subprocess.TimeoutExpired:
        _end_session(process.pid)
        output, _ = process.communicate()
        raise AssertionError(f"{words} did not end within {timeout_seconds} s; it printed:\n{output}") from None
    seconds = time.monotonic() - begun
    left = _session(process.pid)
    _end_session(process.pid)
    assert not left, f"{words} left processes behind: {left}"
    return Ended(process.returncode, output, seconds)


def run_ranks(
    ranks: int,
    program: str | Sequence[str],
    *arguments: str,
    timeout_seconds: float = 120,
    environ: Mapping[str, str] | None = None,
) -> Ended:
    """Run Python source, or the words of a command, on so many ranks under the environment's mpiexec."""
    words = [sys.executable, "-c", textwrap.dedent(program)] if isinstance(program, str) else list(program)
    return run([str(BIN / "mpiexec"), "-n", str(ranks), *words, *arguments], timeout_seconds, environ)


def hpc_dl(*words: str) -> list[str]:
    """The words that run `hpc-dl` in this environment."""
    return [sys.executable, "-m", "hpc_dl.cli", *words]


def _session(leader: int) -> list[str]:
    members = []
    for process in psutil.process_iter(["pid", "cmdline", "status"]):
        try:
            if os.getsid(process.pid) == leader and process.info["status"] != psutil.STATUS_ZOMBIE:
                members.append(f"{process.pid} {' '.join(process.info['cmdline'] or [])[:80]}")
        except (ProcessLookupError, PermissionError, psutil.Error):
            continue
    return members


def _end_session(leader: int) -> None:
    for member in _session(leader):
        psutil.Process(int(member.split()[0])).kill()
