# SPDX-License-Identifier: Apache-2.0
"""Signals that ask a run to stop. They only set a flag: what is done about it is agreed among ranks, between two steps.

SIGUSR1 is a request: Slurm's `--signal`, `scancel --signal=USR1`, or you. SIGTERM is a threat, and comes when a job is
preempted, cancelled or out of time, but also when another rank has died: then this one waits for it and will never
agree with anybody. So a rank leaves by itself when it could not agree in time.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker

STOP_SIGNALS = (signal.SIGUSR1, signal.SIGTERM)
LOADER_SECONDS = 60
"""How long a loader process outlives SIGTERM, which comes to it as to its rank: the last batches are still needed."""


class StopRequest:
    """Was a stop asked for, and have the ranks agreed on it?

    Args:
        patience_seconds: How long a rank under SIGTERM tries to agree with the others.
    """

    def __init__(self, patience_seconds: Callable[[], float]) -> None:
        self._patience_seconds = patience_seconds
        self.asked = False
        self.agreed = threading.Event()
        self._busy = False

    @contextmanager
    def busy(self) -> Iterator[None]:
        """What takes long without a word between the ranks, such as an evaluation, does not use up their patience."""
        self._busy = True
        try:
            yield
        finally:
            self._busy = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals as requests while the block lasts. Outside the main thread nothing is listened to."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        # Python runs a handler when its main thread comes back from C, and a rank that waits for a dead one does not.
        # The file descriptor hears of the signal at once, and a thread reads it.
        reader, writer = socket.socketpair()
        writer.setblocking(False)
        handlers = {number: signal.signal(number, lambda *_: None) for number in STOP_SIGNALS}
        descriptor = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        self.asked = False
        self.agreed.clear()
        listener = threading.Thread(target=self._listen, args=(reader,), daemon=True)
        listener.start()
        try:
            yield
        finally:
            signal.set_wakeup_fd(descriptor)
            for number, handler in handlers.items():
                signal.signal(number, handler)
            self.agreed.set()
            writer.close()
            listener.join()
            reader.close()

    def _listen(self, reader: socket.socket) -> None:
        while number := reader.recv(1):
            self.asked = self.asked or number[0] in STOP_SIGNALS
            if number[0] == signal.SIGTERM and not self._agreed_in_time():
                os._exit(128 + signal.SIGTERM)  # as the shell sees a process that SIGTERM ended

    def _agreed_in_time(self) -> bool:
        left, pause = self._patience_seconds(), 0.5
        while left > 0:
            if self.agreed.wait(pause):
                return True
            left -= 0.0 if self._busy else pause
        return False


def ignore_requests() -> None:
    """Until training listens, and afterwards, SIGUSR1 does nothing; by default it would end the process."""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)


@contextmanager
def withheld() -> Iterator[None]:
    """Child processes started in this block do not hear the signals; for this process they wait until its end."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    resource_tracker.ensure_running()  # it ignores SIGTERM by itself, and lets it through again where it is started
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def outlive_sigterm(_worker: int) -> None:
    """Called at the start of a loader process: let SIGTERM end it a little later, when its rank has stopped."""
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(LOADER_SECONDS))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
