# SPDX-License-Identifier: Apache-2.0
"""Where the records of a run go while it trains."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from hpc_dl.runlog.records import LOG_NAME, Record, to_line


class Sink(Protocol):
    """Where the records of a run go; on rank 0."""

    def write(self, record: Record) -> None: ...
    def close(self) -> None: ...


class LogWriter:
    """Appends records to a run's log; each line is flushed, so what was written survives a kill."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / LOG_NAME).open("a", encoding="utf-8")

    def write(self, record: Record) -> None:
        self._file.write(to_line(record) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()
