# SPDX-License-Identifier: Apache-2.0
"""One failing rank ends the job on all ranks, and says which one it is and why."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
import traceback

from hpc_dl.cluster.rank import RankRecord
from hpc_dl.comm import mpi
from hpc_dl.comm.base import Engine, left_early
from hpc_dl.errors import HpcDlError

FIRST_WORD_SECONDS = 1.0
"""How long ranks let rank 0 speak first where all may fail alike, and the culprit where its peers lose contact."""

FORWARD_SECONDS = 0.2
"""How long launchers get to carry the message away: Hydra drops what it has not read when the job is aborted."""

ENGINE_ERRORS = ("HorovodInternalError", "DistBackendError", "DistNetworkError")
LOST_CONTACT = ("closed by", "reset by", "broken pipe", "shut down", "shutdown", "remote process", "timed out")
"""In the text of an engine's error: another rank has gone."""


def fail(error: BaseException, record: RankRecord, engine: Engine | None) -> None:
    """Say which rank failed and why, end the job on all ranks, and leave this process. Returns only on one process."""
    if record.world_size == 1:
        return
    text, echo = _explain(error, engine)
    # Ranks may all fail alike, thousands of them: rank 0 speaks and ends the job. Echoes let the cause speak first.
    time.sleep(2 * FIRST_WORD_SECONDS if echo else FIRST_WORD_SECONDS if record.rank else 0.0)
    where = f"rank {record.rank} of {record.world_size} on {record.host or socket.gethostname()}"
    try:
        print(f"hpc-dl: {where} failed: {text}", file=sys.stderr, flush=True)
        sys.stdout.flush()
        time.sleep(FORWARD_SECONDS)
    finally:  # whoever has closed the other end of stderr
        _leave(record, engine)


def _leave(record: RankRecord, engine: Engine | None) -> None:
    if engine is not None:
        engine.abort(1)
    mpi.abort(1)
    if record.launcher == "hydra":
        # MPI is not up yet. Hydra ends the other ranks, who wait for this one, when it dies by a signal, not by a code.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
    os._exit(1)  # no exit handlers: those of MPI and Horovod wait for the other ranks


def _explain(error: BaseException, engine: Engine | None) -> tuple[str, bool]:
    """What to print, and whether this is the echo of another rank's end rather than a cause."""
    if isinstance(error, HpcDlError):
        return str(error), False
    if type(error).__name__ in ENGINE_ERRORS or "gloo/transport" in str(error):
        text = str(error).strip() or type(error).__name__
        if any(sign in text.lower() for sign in LOST_CONTACT):
            left = None if engine is None else engine.first_to_leave()
            if engine is not None and left is not None:
                return str(left_early(*left, engine.steps)), False
            return f"lost contact with another rank, which says why if it failed itself ({text})", True
    return f"{type(error).__name__}: {error}\n{''.join(traceback.format_exception(error))}", False
