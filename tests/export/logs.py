# SPDX-License-Identifier: Apache-2.0
"""Logs to export: of a job that runs, has ended, or was killed and resumed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hpc_dl.runlog.records import LOG_NAME, End, Evaluation, Header, Record, Window, to_line
from hpc_dl.runlog.sinks import LogWriter
from tests.scaling import synthetic

STARTED = 1795860000
HEADER = synthetic.header(
    2,
    run_id="digits-2",
    started="2026-11-28T10:00:00+00:00",
    settings={"training": {"epochs": 3}, "task": {"model": "a|b:C"}},
)
END = End("finished", 40, 5120, 20.0, 2.0, 0.5)


def steps(first: int, count: int, seconds: float = 2.0) -> list[Window]:
    """Windows of 10 steps from `first` on; the loss of each is 1 / the steps done."""
    windows = synthetic.windows(HEADER, [seconds] * count, warmup=0)
    return [
        replace(window, first_step=first + 10 * index, loss=1 / (first + 10 * index + 10))
        for index, window in enumerate(windows)
    ]


def evaluation(step: int, accuracy: float) -> Evaluation:
    return Evaluation(step=step, epoch=1, samples=360, seconds=0.5, metrics={"accuracy": accuracy})


RUNNING: list[Record] = [HEADER, *steps(0, 2), evaluation(20, 0.5)]
LONGER: list[Record] = [*RUNNING, *steps(20, 2), evaluation(40, 0.75), END]
RESUMED: list[Record] = [*LONGER[:-1], replace(HEADER, started="2026-11-28T12:00:00+00:00"), *steps(30, 1, 4.0)]
"""From a checkpoint after step 30, ten steps before the job before was killed."""


def write(folder: Path, records: list[Record], half: str = "") -> Path:
    """A run folder with this log alone, `half` behind its last line."""
    (folder / LOG_NAME).unlink(missing_ok=True)
    log = LogWriter(folder)
    for record in records:
        log.write(record)
    log.close()
    with (folder / LOG_NAME).open("a") as file:
        file.write(half)
    return folder


HALF = to_line(steps(40, 1)[0])[:90]


def header(**changes: object) -> Header:
    return replace(HEADER, **changes)  # type: ignore[arg-type]
