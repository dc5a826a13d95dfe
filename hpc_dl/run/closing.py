# SPDX-License-Identifier: Apache-2.0
"""Closes what a loop has left open: with its session, or at the end of the process."""

from __future__ import annotations

import atexit
import weakref
from collections.abc import Callable

from hpc_dl.session import Session


def close_with(session: Session, close: weakref.WeakMethod[Callable[..., None]]) -> Callable[[], None]:
    """At the session's end, or the process's; of the latter nobody knows whether it was the loop's.

    Returns:
        What is to be called when it is closed.
    """

    def at_exit() -> None:
        run = close()
        if run is not None and not session.failed:
            run("exited")

    def at_close() -> None:
        run = close()
        if run is not None:
            run()

    atexit.register(at_exit)
    session.ends_with.callback(at_close)
    return lambda: atexit.unregister(at_exit)
