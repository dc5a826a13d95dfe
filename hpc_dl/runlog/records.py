# SPDX-License-Identifier: Apache-2.0
"""The run log: one JSON line per event, written by rank 0 while training, read by report and predict.

A run folder holds `log.jsonl`: one `Header`, then `Window` and `Evaluation` lines as they come, then one `End`.
Every line carries `kind` and `version`. A run cut short has no `End`; a half-written line is counted, never fatal.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from hpc_dl.errors import HpcDlError
from hpc_dl.runlog.fields import build

VERSION = 1
LOG_NAME = "log.jsonl"
PHASES = ("input", "forward", "backward", "exchange", "optimizer", "other")


@dataclass(frozen=True, slots=True)
class Spread:
    """One quantity over the ranks: its mean, extremes, and the rank that has the largest value."""

    mean: float
    min: float
    max: float
    max_rank: int


@dataclass(frozen=True)
class Header:
    """Who ran what, where and how: written once, before the first step."""

    kind: ClassVar[str] = "header"
    run_id: str
    """Unique name of this run, also the name of its folder."""
    started: str
    """Start of the run, ISO 8601 in UTC."""
    name: str
    """The recipe or the name given in the settings: the label of the run in reports."""
    model: str
    """Import path of the model."""
    parameters: int
    """Trainable parameters."""
    gradient_bytes: int
    """Bytes each rank hands to the exchange per step, before compression."""
    world_size: int
    nodes: int
    ranks_per_node: tuple[int, int]
    """Smallest and largest number of ranks on a node."""
    hosts: tuple[str, ...]
    """Host names in order of their first rank; at most 64, then an ellipsis."""
    local_batch: int
    """Samples per rank and step."""
    global_batch: int
    """Samples per step over all ranks."""
    batch_rule: str
    """"local": the local batch was given (weak scaling); "global": the global batch was given (strong scaling)."""
    engine: str
    engine_why: str
    backend: str
    """What moves the bytes: mpi, gloo, nccl, xccl or none."""
    device: str
    device_why: str
    precision: str
    launcher: str
    job_id: str
    """The scheduler's job, or an empty string."""
    warmup_steps: int
    """Steps at the start that are marked as warm-up and left out of every statement."""
    git_revision: str
    versions: dict[str, str] = field(default_factory=dict)
    """Versions of hpc_dl, python, torch, numpy, horovod, mpi and the like."""
    binding: dict[str, Any] = field(default_factory=dict)
    """What each rank really got (threads, affinity, device), summarised, with a verdict."""
    settings: dict[str, Any] = field(default_factory=dict)
    """The effective settings of the run."""
    epoch_samples: int = 0
    """Training samples in an epoch; 0 where that is not known."""
    exchanged_by: str = "hpc_dl"
    """Who averages the gradients, where hpc_dl only follows a loop: DistributedDataParallel, Horovod, or unknown."""


@dataclass(frozen=True)
class Window:
    """Some consecutive steps, reduced over ranks."""

    kind: ClassVar[str] = "window"
    first_step: int
    steps: int
    warmup: bool
    epoch: int
    samples: int
    """Samples of all ranks in these steps."""
    seconds: Spread
    """Wall-clock seconds of the window; `seconds.max` is the slowest rank's and the one that counts."""
    phases: dict[str, Spread]
    """Seconds per phase (see `PHASES`); a rank's phases sum to its `seconds`."""
    step_seconds: tuple[float, ...]
    """Rank 0's step times, one per step: for their spread and autocorrelation."""
    learning_rate: float
    """At the last step of the window."""
    loss: float | None
    """Mean over the samples of the window and all ranks, of those steps whose loss was told; null where none was."""
    terms: dict[str, float] = field(default_factory=dict)
    """Such means of the parts of the loss and of whatever else a step tells, by name."""


@dataclass(frozen=True)
class Evaluation:
    """Metrics on the held-back data, every sample counted once."""

    kind: ClassVar[str] = "evaluation"
    step: int
    epoch: int
    samples: int
    seconds: float
    metrics: dict[str, float]


@dataclass(frozen=True)
class End:
    """How the run ended."""

    kind: ClassVar[str] = "end"
    reason: str
    """finished; stopped: before its end, because a signal or the job's end asked for it; exited: the process ended, and
    nobody said whether that was the end."""
    steps: int
    samples: int
    seconds: float
    startup_seconds: float
    """From the start of the process to the first step."""
    first_step_seconds: float


Record = Header | Window | Evaluation | End
KINDS: dict[str, type[Any]] = {kind.kind: kind for kind in (Header, Window, Evaluation, End)}


def to_line(record: Record) -> str:
    """One JSON line, with its kind and version, without the newline."""
    return json.dumps({"kind": record.kind, "version": VERSION, **asdict(record)}, separators=(",", ":"))


def from_line(line: str) -> Record:
    """The record of one line; ValueError says what is wrong with it."""
    try:
        values = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error.msg})") from None
    if not isinstance(values, dict) or values.get("kind") not in KINDS:
        raise ValueError("no known kind")
    if values.get("version") != VERSION:
        raise ValueError(f"version {values.get('version')}, this hpc_dl reads {VERSION}")
    kind = KINDS[values["kind"]]
    try:
        record: Record = build(kind, values)
    except ValueError as error:
        raise ValueError(f"{kind.kind}: {error}") from None
    if isinstance(record, Window) and not (record.steps > 0 and 0 < record.seconds.max < math.inf):
        raise ValueError(f"window: {record.steps} steps in {record.seconds.max} seconds")
    return record


@dataclass(frozen=True)
class Run:
    """A run as read back from its folder."""

    folder: Path
    header: Header
    windows: tuple[Window, ...]
    evaluations: tuple[Evaluation, ...]
    end: End | None
    broken: tuple[str, ...]
    """Lines that could not be read: "line 17: not JSON (...)"."""

    @property
    def steady(self) -> tuple[Window, ...]:
        """The windows after warm-up."""
        return tuple(window for window in self.windows if not window.warmup)


def read_run(folder: Path) -> Run:
    """Read a run folder (or its log file). Broken lines are named in the result; a run without a header is an error."""
    path = _log_path(folder)
    records, broken = _read_lines(path)
    if not any(isinstance(record, Header) for record in records):
        raise HpcDlError(f"run {folder}", "its log has no readable header", "look at the log; leave this run out")
    return _assemble(path.parent, records, broken)


def read_parts(folder: Path) -> tuple[tuple[Run, ...], tuple[str, ...]]:
    """One run per header of a log, since a resumed run is another job, and the lines that could not be read."""
    path = _log_path(folder)
    records, broken = _read_lines(path)
    starts = [index for index, record in enumerate(records) if isinstance(record, Header)]
    bounds = zip(starts, [*starts[1:], len(records)], strict=False)  # no header, no part
    parts = tuple(_assemble(path.parent, records[first:last], ()) for first, last in bounds)
    return parts, broken


def _log_path(folder: Path) -> Path:
    path = folder if folder.is_file() else folder / LOG_NAME
    if not path.is_file():
        raise HpcDlError(f"run {folder}", f"no {LOG_NAME} in it", "name a folder that `hpc-dl train` wrote")
    return path


def _read_lines(path: Path) -> tuple[list[Record], tuple[str, ...]]:
    records: list[Record] = []
    broken: list[str] = []
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                records.append(from_line(line))
            except ValueError as error:
                broken.append(f"line {number}: {error}")
    return records, tuple(broken)


def _assemble(folder: Path, records: Sequence[Record], broken: tuple[str, ...]) -> Run:
    ends = [record for record in records if isinstance(record, End)]
    return Run(
        folder=folder,
        header=[record for record in records if isinstance(record, Header)][-1],
        windows=tuple(record for record in records if isinstance(record, Window)),
        evaluations=tuple(record for record in records if isinstance(record, Evaluation)),
        end=ends[-1] if ends else None,
        broken=broken,
    )
