# SPDX-License-Identifier: Apache-2.0
"""Find the runs a user names and read them; what cannot be used is left out by name, with the reason."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hpc_dl.errors import HpcDlError
from hpc_dl.runlog.records import LOG_NAME, Run, read_parts


@dataclass(frozen=True)
class Collection:
    """The usable runs, smallest first, and what was left out."""

    runs: tuple[Run, ...]
    left_out: tuple[str, ...]
    """"FOLDER: reason", one for each run that says nothing."""
    broken: tuple[str, ...]
    """"FOLDER line 17: reason", one for each line that could not be read."""
    table: str = ""
    """The CSV file the numbers come from; empty where they come from logs."""


def collect(paths: Sequence[Path]) -> Collection:
    """Read every run in `paths`: run folders, log files, or folders that hold runs at any depth."""
    kept: dict[tuple[str, str], Run] = {}
    left_out: list[str] = []
    broken: list[str] = []
    for log, (parts, unreadable) in _read_all(_logs(paths)):
        broken += [f"{log.parent.name} {line}" for line in unreadable]
        if not parts:
            left_out.append(f"{log.parent.name}: its log has no readable header")
        for run in parts:
            reason = _unusable(run, kept)
            if reason:
                left_out.append(f"{label(run)}: {reason}")
            else:
                kept[run.header.run_id, run.header.started] = run
    if not kept:
        asked = ", ".join(str(path) for path in paths)
        raise HpcDlError(f"report of {asked}", "; ".join(left_out[:5]), "name runs with measured steps after warm-up")
    runs = sorted(kept.values(), key=lambda run: (run.header.world_size, run.header.nodes, run.header.started))
    return Collection(tuple(runs), tuple(left_out), tuple(broken))


def label(run: Run) -> str:
    """The name of a run in messages and tables: its folder's."""
    return run.folder.name


def _logs(paths: Sequence[Path]) -> list[Path]:
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_file():
            logs = [path]
        elif (path / LOG_NAME).is_file():
            logs = [path / LOG_NAME]
        else:
            logs = sorted(path.rglob(LOG_NAME))
        if not logs:
            found_there = f"no {LOG_NAME} in it" if path.exists() else "no such folder"
            raise HpcDlError(f"run {path}", found_there, "name folders that `hpc-dl train` wrote, or their parent")
        found.update((log.resolve(), None) for log in logs)
    return list(found)


def _read_all(logs: Sequence[Path]) -> list[tuple[Path, tuple[tuple[Run, ...], tuple[str, ...]]]]:
    """The parts of each log. A million small objects and no cycles: looking for cycles took a third of a report's time,
    so the collector waits until all is read and then leaves it alone."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        return [(log, read_parts(log)) for log in logs]
    finally:
        gc.freeze()
        if collecting:
            gc.enable()


def _unusable(run: Run, kept: dict[tuple[str, str], Run]) -> str:
    """Why a run says nothing, or an empty string."""
    twin = kept.get((run.header.run_id, run.header.started))
    if twin:
        return f"the same run as {label(twin)}; a copy is not a repeat"
    if not run.steady:
        return "no window after warm-up"
    return ""
