# SPDX-License-Identifier: Apache-2.0
"""The results in a run's log, as every destination takes them: facts, and scalars in order of their steps."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from hpc_dl.errors import HpcDlError
from hpc_dl.runlog.records import Evaluation, Run, Window, read_parts

Fact = str | int | float


@dataclass(frozen=True)
class Scalar:
    """One number of a run."""

    step: int
    """Optimizer steps done."""
    unix_seconds: float
    """When: the start of the job, and the seconds of the windows and evaluations since."""
    name: str
    value: float


@dataclass(frozen=True)
class Results:
    """A run, told in facts and scalars."""

    folder: Path
    name: str
    key: str
    """Tells this run from all others: made of its first job's name, start and host."""
    started: float
    """Start of the last job, in Unix seconds."""
    facts: Mapping[str, Fact]
    """The last job's header, nested names joined by dots."""
    scalars: tuple[Scalar, ...]
    """In order of step, each name once a step."""
    end: str
    """How the last job ended (finished, stopped); empty where it runs, or was killed."""
    broken: tuple[str, ...]
    """Lines that could not be read."""

    def at_steps(self) -> Iterator[tuple[int, list[Scalar]]]:
        """The scalars of each step."""
        groups: dict[int, list[Scalar]] = {}
        for scalar in self.scalars:
            groups.setdefault(scalar.step, []).append(scalar)
        yield from groups.items()


def read_results(folder: Path) -> Results:
    """The results of a run folder (or its log file), as far as they are written.

    Where a resumed job did steps again, those of the job before do not count.
    """
    parts, broken = read_parts(folder)
    if not parts:
        raise HpcDlError(f"run {folder}", "its log has no readable header", "look at the log; leave this run out")
    first, last = parts[0].header, parts[-1]
    key = " ".join((first.run_id, first.started, *first.hosts[:1]))
    found = {(scalar.step, scalar.name): scalar for part in _lasting(parts) for scalar in _scalars(part)}
    return Results(
        folder=last.folder,
        name=Path(last.header.run_id).name or last.folder.resolve().name,
        key=hashlib.sha256(key.encode()).hexdigest()[:16],
        started=_unix_seconds(last),
        facts=dict(_facts("", asdict(last.header))),
        scalars=tuple(sorted(found.values(), key=lambda scalar: scalar.step)),
        end=last.end.reason if last.end else "",
        broken=broken,
    )


def _lasting(parts: Sequence[Run]) -> list[Run]:
    """The parts without what a later one did again."""
    kept: list[Run] = []
    begun = math.inf
    for part in reversed(parts):
        windows = tuple(window for window in part.windows if _step(window) <= begun)
        evaluations = tuple(evaluation for evaluation in part.evaluations if evaluation.step <= begun)
        kept.append(replace(part, windows=windows, evaluations=evaluations))
        begun = min([begun, *(w.first_step for w in part.windows), *(e.step for e in part.evaluations)])
    return kept[::-1]


def _scalars(part: Run) -> Iterator[Scalar]:
    clock = _unix_seconds(part)
    records: list[Window | Evaluation] = [*part.windows, *part.evaluations]
    for record in sorted(records, key=_step):  # an evaluation behind the window that ends at its step
        clock += record.seconds.max if isinstance(record, Window) else record.seconds
        values = _of_window(record) if isinstance(record, Window) else _of_evaluation(record)
        yield from (Scalar(_step(record), clock, name, value) for name, value in values.items())


def _step(record: Window | Evaluation) -> int:
    """Optimizer steps done when it was written."""
    return record.first_step + record.steps if isinstance(record, Window) else record.step


def _of_window(window: Window) -> dict[str, float]:
    """Times are seconds per step; those of phases are means over the ranks."""
    terms: Mapping[str, float] = getattr(window, "terms", {})
    return {
        **({} if window.loss is None else {"train/loss": window.loss}),
        **{f"terms/{name}": value for name, value in terms.items()},
        "train/learning_rate": window.learning_rate,
        "train/epoch": window.epoch,
        "speed/samples_per_second": window.samples / window.seconds.max,
        "speed/step_seconds": window.seconds.max / window.steps,
        **{f"phases/{name}_seconds": spread.mean / window.steps for name, spread in window.phases.items()},
    }


def _of_evaluation(evaluation: Evaluation) -> dict[str, float]:
    return {f"evaluation/{name}": value for name, value in evaluation.metrics.items()}


def _unix_seconds(part: Run) -> float:
    started = part.header.started
    try:
        moment = datetime.fromisoformat(started.replace("Z", "+00:00"))  # Python 3.10 reads no Z
    except ValueError:
        raise HpcDlError(f"run {part.folder}", f"its start, {started!r}, is no time", "leave this run out") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()


def _facts(name: str, value: Any) -> Iterator[tuple[str, Fact]]:
    """Nested values as one row each; what is empty is left out."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _facts(f"{name}.{key}" if name else str(key), inner)
    elif isinstance(value, list | tuple):
        yield from [(name, ", ".join(map(str, value)))] if value else []
    elif value not in ("", None):
        yield name, value if isinstance(value, str | int | float) else str(value)
