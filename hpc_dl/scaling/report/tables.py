# SPDX-License-Identifier: Apache-2.0
"""The study as text: the table of sizes for the terminal, Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from typing import Any

from hpc_dl.scaling.efficiency import Point
from hpc_dl.scaling.report.words import interval, number, percent, seconds
from hpc_dl.scaling.statistics import Estimate
from hpc_dl.scaling.study import Study

HEADINGS = ("Ranks", "Nodes", "Global batch", "Runs", "Samples/s", "Step", "Speed-up", "Ideal", "Efficiency")


def row(point: Point) -> tuple[str, ...]:
    """One size, as `HEADINGS` name it."""
    size = point.size
    return (
        f"{size.world_size:,}",
        f"{size.nodes:,}",
        f"{size.header.global_batch:,}",
        str(len(size.runs)),
        interval(point.throughput),
        seconds(point.step_seconds.value),
        interval(point.speedup),
        number(point.ideal_speedup),
        percent(point.efficiency) + (" ?" if point.efficiency.value > 1 else ""),
    )


def heading(study: Study) -> str:
    """What is compared, in a line: the kind of scaling and the baseline."""
    base = study.baseline
    rule = {"weak": "Weak scaling", "strong": "Strong scaling", "one size": "One size"}[study.scaling]
    ranks = "1 rank" if base.world_size == 1 else f"{base.world_size:,} ranks"
    nodes = "1 node" if base.nodes == 1 else f"{base.nodes:,} nodes"
    return f"{rule}; efficiency against {ranks} on {nodes}; 95 % intervals in brackets"


def terminal(study: Study) -> str:
    """The table of sizes and the notes, for a terminal."""
    rows = [HEADINGS, *(row(point) for point in study.points)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True)) for cells in rows]
    return "\n".join([heading(study), *lines, *(f"- {note}" for note in study.notes)])


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table with every column to the right."""
    lines = [headings, ["---:"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def markdown(study: Study) -> str:
    """The report as Markdown."""
    name = study.points[0].size.header.name
    table = markdown_table(HEADINGS, [row(point) for point in study.points])
    notes = "\n".join(f"- {note}" for note in study.notes)
    return f"# Scaling of {name}\n\n{heading(study)}.\n\n{table}\n\n{notes}\n"


def facts(point: Point) -> dict[str, Any]:
    """One size as plain numbers, for JSON and CSV."""
    size = point.size
    plain: dict[str, Any] = {
        "ranks": size.world_size,
        "nodes": size.nodes,
        "local_batch": size.header.local_batch,
        "global_batch": size.header.global_batch,
        "runs": len(size.runs),
        "interval_over": size.basis,
        "ideal_speedup": point.ideal_speedup,
    }
    named = {
        "samples_per_second": point.throughput,
        "step_seconds": point.step_seconds,
        "speedup": point.speedup,
        "efficiency": point.efficiency,
    }
    for name, estimate in named.items():
        plain |= _ends(name, estimate)
    return plain


def _ends(name: str, estimate: Estimate) -> dict[str, float | None]:
    values = {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    return {key: None if math.isnan(value) else value for key, value in values.items()}


def csv_text(study: Study) -> str:
    """One line per size."""
    lines = [facts(point) for point in study.points]
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def json_text(study: Study) -> str:
    """The same facts for programs."""
    return json.dumps(
        {
            "version": 1,
            "scaling": study.scaling,
            "baseline": {"ranks": study.baseline.world_size, "nodes": study.baseline.nodes},
            "sizes": [facts(point) for point in study.points],
            "notes": list(study.notes),
        },
        indent=2,
        allow_nan=False,
    )
