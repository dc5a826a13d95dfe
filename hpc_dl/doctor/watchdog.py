# SPDX-License-Identifier: Apache-2.0
"""Ends a rank whose check hangs: says which, shows the rank's stack, and kills it."""

from __future__ import annotations

import faulthandler
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hpc_dl.doctor.finding import Finding

REMEDY = "look at the stack below; a rank that is missing there never arrived: its node or its network is at fault"
STACK_SECONDS = 0.5


class Watchdog:
    """A process of its own, forked before MPI and torch are there: inside MPI_Init no thread of Python may run."""

    def __init__(self, seconds: float, say: Callable[[Finding], None]) -> None:
        """Args: seconds: how long one piece of work may take; say: prints a finding."""
        faulthandler.register(signal.SIGUSR1, all_threads=True)  # written by the signal handler itself, in C
        reading, self._writing = os.pipe()
        rank = os.getpid()
        if os.fork() == 0:
            os.close(self._writing)
            os.closerange(3, reading)  # the launcher's descriptors: its end of them must close with the rank
            os.closerange(reading + 1, os.sysconf("SC_OPEN_MAX"))
            try:
                _watch(reading, rank, seconds, say)
            finally:
                os._exit(0)
        os.close(reading)

    @contextmanager
    def over(self, what: str) -> Iterator[None]:
        """Watch over a piece of work."""
        os.write(self._writing, f"{what}\n".encode())
        try:
            yield
        finally:
            os.write(self._writing, b"\n")

    def close(self) -> None:
        """End the watch."""
        os.close(self._writing)


def _watch(reading: int, rank: int, seconds: float, say: Callable[[Finding], None]) -> None:
    """Read names of work, an empty one for its end, until the rank closes the pipe."""
    what = ""
    while True:
        ready, _, _ = select.select([reading], [], [], seconds if what else None)
        if not ready:
            say(Finding("hang", "fail", f"{what} did not end within {seconds:g} s on this rank", REMEDY))
            os.kill(rank, signal.SIGUSR1)
            time.sleep(STACK_SECONDS)
            os.kill(rank, signal.SIGKILL)
            return
        text = os.read(reading, 4096).decode()
        if not text:
            return
        what = text.split("\n")[-2]
