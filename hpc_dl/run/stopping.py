# SPDX-License-Identifier: Apache-2.0
"""When to write a checkpoint and when to stop: what this rank would do, and what all ranks have agreed on.

The wishes travel with the windows of the log, about once a second, and the largest counts: all ranks learn of it after
the same step, at no cost of their own.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Mapping

from hpc_dl.cluster.variables import JOB_END
from hpc_dl.errors import HpcDlError
from hpc_dl.settings import CheckpointSettings
from hpc_dl.signals import StopRequest

LEAST_PATIENCE_SECONDS, MOST_PATIENCE_SECONDS = 5.0, 60.0


class Wish(enum.IntEnum):
    """What to do after the current step; of several wishes the largest counts."""

    GO_ON = 0
    CHECKPOINT = 1
    STOP_IN_TIME = 2
    STOP_ASKED = 3


REASONS = {
    Wish.STOP_IN_TIME: "the job is about to end",
    Wish.STOP_ASKED: "a signal asked for it",
}


class Watch:
    """One rank's watch over the time.

    Args:
        settings: How often a checkpoint is written, and how long before the job's end training stops.
        job_end_unix_seconds: When the scheduler is going to end the job; None where nobody knows.
        clock: Seconds since 1970.
    """

    def __init__(
        self,
        settings: CheckpointSettings | None = None,
        job_end_unix_seconds: float | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings or CheckpointSettings()
        self._job_end, self._clock = job_end_unix_seconds, clock
        self._saved = clock()
        self._looked: float | None = None
        self._longest_gap = 0.0
        self._agreed = Wish.GO_ON
        self.request = StopRequest(self._patience_seconds)

    def _patience_seconds(self) -> float:
        return min(max(LEAST_PATIENCE_SECONDS, 3 * self._longest_gap), MOST_PATIENCE_SECONDS)

    def wish(self) -> Wish:
        """What this rank would do. It is asked now and then; the longest time between two questions is remembered,
        since an agreement, and what it leads to, takes two of them."""
        now = self._clock()
        if self._looked is not None:  # the first steps, which are slow, come before the first question
            self._longest_gap = max(self._longest_gap, now - self._looked)
        self._looked = now
        if self.request.asked:
            return Wish.STOP_ASKED
        margin = self._settings.stop_margin_seconds + 2 * self._longest_gap
        if self._job_end is not None and now > self._job_end - margin:
            return Wish.STOP_IN_TIME
        due = self._settings.every_minutes > 0 and now > self._saved + 60 * self._settings.every_minutes
        return Wish.CHECKPOINT if due else Wish.GO_ON

    def hear(self, agreed: int) -> None:
        """Take in the largest wish of all ranks."""
        self._agreed = max(self._agreed, Wish(agreed))
        if self._agreed >= Wish.STOP_IN_TIME:
            self.request.agreed.set()
        if self._agreed:
            self._saved = self._clock()

    def agreed(self) -> Wish:
        """What all ranks have agreed on since the last call."""
        agreed, self._agreed = self._agreed, Wish.GO_ON
        return agreed


def due(every: int, done: int) -> bool:
    """Is something due that is done after every so many (0: never)?"""
    return every > 0 and done % every == 0


def job_end(environ: Mapping[str, str]) -> float | None:
    """When the scheduler is going to end this job, in seconds since 1970, as job scripts export it."""
    text = environ.get(JOB_END, "").strip()
    try:
        return float(text) if text else None
    except ValueError:
        raise HpcDlError(
            f"{JOB_END}={text}", "not a time in seconds since 1970", f"correct or unset {JOB_END}"
        ) from None
