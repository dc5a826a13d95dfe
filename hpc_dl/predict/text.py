# SPDX-License-Identifier: Apache-2.0
"""A forecast as a table for people and as plain values for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from hpc_dl.predict.advise import Advice
from hpc_dl.predict.forecast import Forecast, Interval, Point
from hpc_dl.predict.simulate import WhatIf

PARTS = ("input", "compute", "exposed", "straggler", "other")


def table(forecast: Forecast) -> str:
    """One row per size: step time and efficiency with 90 % intervals, and where the step goes."""
    head = ["Ranks", "Nodes", "Step, ms", "90 % interval", "Efficiency", "90 % interval", "Exposed, ms", "Waiting, ms"]
    rows = [head, *(_row(point) for point in forecast.points)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(
        [*lines, "", f"Efficiency against {forecast.baseline_ranks} ranks.", f"Network: {forecast.basis}."]
    )


def _row(point: Point) -> list[str]:
    step = point.step
    return [
        str(step.ranks),
        str(step.nodes),
        f"{point.seconds.value * 1e3:.1f}",
        _span(point.seconds, 1e3, ".1f"),
        f"{point.efficiency.value:.1%}",
        _span(point.efficiency, 1, ".1%"),
        f"{step.exposed_seconds * 1e3:.1f}",
        f"{step.straggler_seconds * 1e3:.1f}",
    ]


def _span(interval: Interval, factor: float, form: str) -> str:
    return f"{format(interval.low * factor, form)} to {format(interval.high * factor, form)}"


def advice_table(advices: Sequence[Advice], ranks: int) -> str:
    """The changes, the most helpful first."""
    lines = [f"What would change most at {ranks} ranks:"]
    for advice in advices:
        lines.append(
            f"  {advice.gain - 1:+7.1%} samples/s  {advice.change}{'; ' if advice.caveat else ''}{advice.caveat}"
        )
    return "\n".join(lines)


def what_if_table(rows: Sequence[WhatIf], ranks: int, steps: int) -> str:
    """Simulated suppositions."""
    lines = [f"Simulated, {ranks:,} ranks x {steps} steps:"]
    lines += [f"  {row.step_seconds * 1e3:8.1f} ms  {row.slowdown - 1:+6.1%}  {row.supposition}" for row in rows]
    return "\n".join(lines)


def values(forecast: Forecast, advices: Sequence[Advice] = ()) -> dict[str, Any]:
    """All of a forecast, for JSON."""
    return {
        "kind": "hpc-dl predict",
        "version": 1,
        "baseline_ranks": forecast.baseline_ranks,
        "network": forecast.basis,
        "habits": asdict(forecast.parameters.habits),
        "points": [
            {
                "ranks": point.step.ranks,
                "nodes": point.step.nodes,
                "step_seconds": asdict(point.seconds),
                "efficiency": asdict(point.efficiency),
                "parts_seconds": {part: getattr(point.step, f"{part}_seconds") for part in PARTS},
            }
            for point in forecast.points
        ],
        "changes": [{"change": advice.change, "gain": advice.gain, "caveat": advice.caveat} for advice in advices],
    }
