# SPDX-License-Identifier: Apache-2.0
"""Tables of published scaling results, read from Markdown or CSV; the form is described in docs/predict.md.

A table holds series (one per row: a system, a model, points "ranks: rate (efficiency)"), and may bring its own tables
of systems and models. What is not a number stays text here; `hardware.py` makes numbers of it.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hpc_dl.errors import HpcDlError

FOLDER = Path(__file__).parent / "tables"
"""Holds published.csv, systems.csv, models.csv."""


@dataclass(frozen=True)
class Point:
    """One published measurement."""

    size: int
    """Ranks or nodes, whichever the series counts."""
    rate: float | None
    """In the unit of the series, None where only an efficiency was published."""
    efficiency: float | None
    """As published, 0.93 for 93 %."""


@dataclass(frozen=True)
class Series:
    """One row of a table: one model on one system, at some sizes."""

    name: str
    group: str
    """Heading under which the row stands ("A3"), its group in summaries."""
    system: str
    model: str
    software: str
    condition: str
    """"precision; local batch; mode", as printed."""
    unit: str
    """What rates count ("img/s"), empty where there are only efficiencies."""
    points: tuple[Point, ...]
    note: str


@dataclass(frozen=True)
class Table:
    """All of one file."""

    series: tuple[Series, ...]
    systems: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """System name to its row, columns in lower case."""
    models: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    pointless: tuple[str, ...] = ()
    """Rows without points that can be read: they can neither calibrate nor test."""


def read_table(path: Path) -> Table:
    """Read a table of published results from a .md or .csv file."""
    if not path.is_file():
        raise HpcDlError(f"table {path}", "no such file", "name a Markdown or CSV file, see docs/predict.md")
    rows = list(_csv_rows(path) if path.suffix.lower() == ".csv" else _markdown_rows(path))
    systems = {row["system"]: row for row in rows if _is_system(row)}
    models = {row["model"]: row for row in rows if _is_model(row)}
    candidates = [row for row in rows if row.get("row") and "system" in row]
    series = [_series(row) for row in candidates]
    if not series:
        raise HpcDlError(f"table {path}", "no row of the known form", "compare it with the form in docs/predict.md")
    usable = tuple(one for one in series if one.points)
    return Table(usable, systems, models, tuple(one.name for one in series if not one.points))


def shipped() -> Table:
    """The published results in `tables/`."""
    return read_table(FOLDER / "published.csv")


def known(kind: str) -> dict[str, dict[str, str]]:
    """The rows of systems.csv or models.csv by name."""
    return {next(iter(row.values())): row for row in _csv_rows(FOLDER / f"{kind}.csv")}


def _is_system(row: Mapping[str, str]) -> bool:
    return "row" not in row and any(column.startswith("accelerators per node") for column in row)


def _is_model(row: Mapping[str, str]) -> bool:
    return "row" not in row and any(column.startswith("parameters") for column in row)


def _csv_rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as lines:
        text = (line for line in lines if not line.startswith("#"))
        for row in csv.DictReader(text):
            yield {(key or "").strip().lower(): (value or "").strip() for key, value in row.items()}


def _markdown_rows(path: Path) -> Iterator[dict[str, str]]:
    """Rows of all pipe tables of a file, each with the heading above it as `group`."""
    heading, header = "", list[str]()
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            heading = line.lstrip("#").strip().split(" ")[0]
        if not line.lstrip().startswith("|"):
            header = []
            continue
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not header:
            header = [cell.lower() for cell in cells]
        elif not set("".join(cells)) <= set("-: "):
            yield {"group": heading, **dict(zip(header, cells, strict=False))}


def _series(row: Mapping[str, str]) -> Series:
    def column(start: str) -> str:
        return next((value for key, value in row.items() if key.startswith(start)), "")

    unit, points = parse_points(column("points"))
    return Series(
        name=column("row"),
        group=column("group") or "all",
        system=column("system"),
        model=column("model"),
        software=column("software"),
        condition=column("precision"),
        unit=unit,
        points=points,
        note=column("note"),
    )


POINT = re.compile(r"(?<![\w.])([\d,]+)\s*:\s*([\d][\d.,]*)\s*(%)?\s*(?:\(([\d.]+)\s*%\))?\s*(?=;|$)")


def parse_points(text: str) -> tuple[str, tuple[Point, ...]]:
    """The unit and the points of a cell; parts that are anything else are passed over.

    >>> parse_points("[img/s] 1: 134.4; 16: 2022.6 (94.1 %)")[1][1]
    Point(size=16, rate=2022.6, efficiency=0.941)
    >>> parse_points("128: 90.0 %; 512: 90.0 %")[1][0]
    Point(size=128, rate=None, efficiency=0.9)
    """
    unit_match = re.match(r"\s*\[([^\]]*)\]", text)
    unit = unit_match.group(1) if unit_match else ""
    body = text[unit_match.end() :] if unit_match else text
    points = [_point(part.strip()) for part in body.split(";")]
    return unit, tuple(sorted((point for point in points if point is not None), key=lambda point: point.size))


def _point(text: str) -> Point | None:
    match = POINT.fullmatch(text)
    if match is None:
        return None
    size, value, percent, efficiency = match.groups()
    number = float(value.replace(",", ""))
    if percent:
        return Point(int(size.replace(",", "")), None, number / 100)
    return Point(int(size.replace(",", "")), number, float(efficiency) / 100 if efficiency else None)
