# SPDX-License-Identifier: Apache-2.0
"""A scaling study: everything a report says, worked out once, before any of it is written in HTML, Markdown or JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hpc_dl.scaling.comparable import Scaling, decide_scaling
from hpc_dl.scaling.efficiency import Point, Size, choose_baseline, points, sizes
from hpc_dl.scaling.runs import Collection, collect


@dataclass(frozen=True)
class Study:
    """Runs that can be compared, and what follows from them."""

    collection: Collection
    scaling: Scaling
    baseline: Size
    points: tuple[Point, ...]
    notes: tuple[str, ...]
    """What a reader has to know before believing the numbers."""


def read_study(paths: Sequence[Path], baseline: str = "smallest") -> Study:
    """The study of the runs in `paths`; refuses, by name, runs that cannot be compared."""
    return build_study(collect(paths), baseline)


def build_study(collection: Collection, baseline: str = "smallest") -> Study:
    """The study of runs already read."""
    scaling = decide_scaling(collection.runs)
    measured = sizes(collection.runs)
    reference = choose_baseline(measured, baseline)
    found = points(measured, reference)
    return Study(collection, scaling, reference, found, tuple(_notes(collection, found)))


def _notes(collection: Collection, found: Sequence[Point]) -> list[str]:
    notes = [f"Left out: {reason}." for reason in collection.left_out]
    if collection.broken:
        listing = "; ".join(collection.broken[:10])
        notes.append(f"{len(collection.broken)} log lines could not be read: {listing}.")
    single = [str(point.size.world_size) for point in found if point.size.basis == "windows"]
    if single:
        notes.append(
            f"One run only at {', '.join(single)} ranks: the interval covers variation within that job; "
            "variation from job to job is not covered. Repeat whole jobs to cover it."
        )
    notes += [
        f"Efficiency over 1 at {point.size.world_size} ranks: a question, not a result. Look for a cause: "
        "a slow baseline, or data that begin to fit in memory."
        for point in found
        if point.efficiency.value > 1
    ]
    return notes
