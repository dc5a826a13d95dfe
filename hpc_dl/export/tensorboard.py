# SPDX-License-Identifier: Apache-2.0
"""To TensorBoard: one event file a run, written by tensorboardX, which needs neither torch nor TensorFlow.

The same log gives the same bytes. So a file that a longer log begins with is gone on with, which a TensorBoard that
shows it notices; after anything else, such as a job that resumed the run, it is written anew.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hpc_dl.export.files import library
from hpc_dl.export.results import Results

SUFFIX = ".hpc_dl"
"""Of our files; others in the folder are left alone."""


def write(results: Results, output: str) -> str:
    """events.out.tfevents.START.hpc_dl in the folder NAME of the folder `output`; a later job's comes later by name."""
    folder = Path(output or "export/tensorboard") / results.name
    path = folder / f"events.out.tfevents.{int(results.started):010d}{SUFFIX}"
    new = _bytes(results)
    old = path.read_bytes() if path.is_file() else b""
    folder.mkdir(parents=True, exist_ok=True)
    with path.open("ab" if new.startswith(old) else "wb") as file:
        file.write(new.removeprefix(old))
    for superseded in set(folder.glob(f"events.out.tfevents.*{SUFFIX}")) - {path}:
        superseded.unlink()
    return str(folder)


def _bytes(results: Results) -> bytes:
    """The event file; only tensorboardX's writer knows its frame, and it writes files."""
    record_writer = library("tensorboardX.record_writer", "tensorboardX", "export --to tensorboard")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events"
        writer = record_writer.RecordWriter(str(path))
        for event in _events(results):
            writer.write(event.SerializeToString())
        writer.close()
        return path.read_bytes()


def _events(results: Results) -> Iterator[Any]:
    protocol = library("tensorboardX.proto.event_pb2", "tensorboardX", "export --to tensorboard")
    summary = library("tensorboardX.summary", "tensorboardX", "export --to tensorboard")
    event = protocol.Event
    start = protocol.SessionLog(status=protocol.SessionLog.START)
    yield event(wall_time=results.started, file_version="brain.Event:2")
    yield event(wall_time=results.started, session_log=start)  # whoever read an earlier file forgets its points
    rows = "\n".join(f"| {name} | {_cell(str(value))} |" for name, value in results.facts.items())
    table = f"| fact | value |\n|---|---|\n{rows}"
    yield event(wall_time=results.started, summary=summary.text("facts", table))
    for scalar in results.scalars:
        yield event(wall_time=scalar.unix_seconds, step=scalar.step, summary=summary.scalar(scalar.name, scalar.value))


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
