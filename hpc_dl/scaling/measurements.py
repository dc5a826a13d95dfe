# SPDX-License-Identifier: Apache-2.0
"""Measurements from anywhere, as a CSV file: nodes, ranks, samples and seconds of windows, or of whole runs.

They become runs as if read from logs. What a table does not tell is 0 or empty in their headers, as epoch_samples is
where nobody knows it, and a report leaves it out.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpc_dl.errors import HpcDlError
from hpc_dl.runlog.records import Header, Run, Spread, Window
from hpc_dl.scaling.comparable import Scaling
from hpc_dl.scaling.runs import Collection

SUFFIX = ".csv"
COLUMNS = ("nodes", "ranks", "samples", "seconds")
OPTIONAL = ("name", "batch_rule")
RULES: dict[str, Scaling] = {"local": "weak", "global": "strong", "": "unstated"}
REMEDY = "write nodes,ranks,samples,seconds in the first line and a row for each window or run; docs/results.md has one"


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    line: int
    nodes: int
    ranks: int
    samples: int
    """Of all ranks."""
    seconds: float
    """Of the slowest rank."""
    name: str
    batch_rule: str


def read_table(path: Path) -> Collection:
    """The runs of a table, smallest first.

    Rows with one name and size are the windows of a run, in their order, and so are rows of one size without a name.

    Raises:
        HpcDlError: It has no such columns, text where numbers belong, or sizes that say nothing; names the line.
    """
    rows = _rows(path)
    _refuse_sizes(path, rows)
    groups: dict[tuple[int, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.ranks, row.name), []).append(row)
    runs = [_run(path, group) for _, group in sorted(groups.items(), key=lambda item: item[0][0])]
    return Collection(tuple(runs), (), (), table=path.name)


def scaling_of(collection: Collection) -> Scaling:
    """Weak or strong as the table's batch_rule says, which need not say it: efficiency is defined without."""
    return RULES[collection.runs[0].header.batch_rule]


def _rows(path: Path) -> list[Row]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.DictReader(file, skipinitialspace=True)
            lines.fieldnames = [name.strip().lower() for name in lines.fieldnames or ()]
            missing = [name for name in COLUMNS if name not in lines.fieldnames]
            if missing:
                found = f"no column {', '.join(missing)} among its first line's {', '.join(lines.fieldnames) or 'none'}"
                raise HpcDlError(f"report of {path}", found, REMEDY + ", with commas between")
            rows = [_row(path, lines.line_num, cells) for cells in lines]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        found = (error.strerror if isinstance(error, OSError) else None) or f"it is no CSV file ({error})"
        raise HpcDlError(f"report of {path}", found, REMEDY) from error
    if not rows:
        raise HpcDlError(f"report of {path}", "it has no rows", REMEDY)
    return rows


def _row(path: Path, line: int, cells: dict[str, str | None]) -> Row:
    asked = f"report of {path}, line {line}"
    if None in cells:
        raise HpcDlError(asked, "more cells than the first line has names", "write numbers with a point: 1234.5")
    text = {name: (cell or "").strip() for name, cell in cells.items()}
    nodes, ranks, samples = (int(_number(asked, name, text[name], whole=True)) for name in COLUMNS[:3])
    if ranks % nodes:
        found = f"{ranks} ranks cannot stand in equal numbers on {nodes} nodes"
        raise HpcDlError(asked, found, "leave it out, or measure with the same number of ranks on every node")
    rule = text.get("batch_rule", "").lower()
    if rule not in RULES:
        raise HpcDlError(asked, f"batch_rule {rule!r}", "write local (weak scaling), global (strong), or nothing")
    seconds = _number(asked, "seconds", text["seconds"])
    return Row(line, nodes, ranks, samples, seconds, text.get("name", ""), rule)


def _number(asked: str, name: str, text: str, whole: bool = False) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf or (whole and value != int(value)):
        wanted = "a whole number of at least 1" if whole else "a number above 0"
        raise HpcDlError(asked, f"{name} is {text!r}", f"write {wanted}, such as 16")
    return value


def _refuse_sizes(path: Path, rows: Sequence[Row]) -> None:
    for first, second in _contradictions(rows):
        raise HpcDlError(
            f"report of {path}, lines {first.line} and {second.line}",
            f"{_size(first)} and {_size(second)}",
            "report each of them on its own",
        )
    if len({row.ranks for row in rows}) == 1:
        found = f"all its rows have {_size(rows[0])}"
        raise HpcDlError(f"report of {path}", found, "add rows of a second size: efficiency compares two")


def _contradictions(rows: Sequence[Row]) -> Iterator[tuple[Row, Row]]:
    """Rows that cannot stand in one study: of other rules, or of one number of ranks on other numbers of nodes."""
    of_ranks: dict[int, Row] = {}
    for row in rows:
        before = of_ranks.setdefault(row.ranks, row)
        if row.nodes != before.nodes:
            yield before, row
        if row.batch_rule != rows[0].batch_rule:
            yield rows[0], row


def _size(row: Row) -> str:
    rule = f" with batch_rule {row.batch_rule}" if row.batch_rule else ""
    return f"{row.ranks} ranks on {row.nodes} nodes{rule}"


def _run(path: Path, rows: Sequence[Row]) -> Run:
    name = rows[0].name or f"{rows[0].ranks} ranks"
    return Run(Path(name.replace("/", "_")), _header(path, rows[0], name), tuple(map(_window, rows)), (), None, ())


def _header(path: Path, row: Row, name: str) -> Header:
    per_node = row.ranks // row.nodes
    unknown: dict[str, Any] = dict.fromkeys(
        ("started", "model", "engine", "engine_why", "backend", "device", "device_why", "precision", "launcher"), ""
    )
    return Header(
        run_id=name,
        name=path.stem,
        world_size=row.ranks,
        nodes=row.nodes,
        ranks_per_node=(per_node, per_node),
        batch_rule=row.batch_rule,
        **unknown,
        job_id="",
        git_revision="",
        hosts=(),
        parameters=0,
        gradient_bytes=0,
        local_batch=0,
        global_batch=0,
        warmup_steps=0,
    )


def _window(row: Row) -> Window:
    return Window(
        first_step=0,
        steps=0,
        warmup=False,
        epoch=0,
        samples=row.samples,
        seconds=Spread(row.seconds, row.seconds, row.seconds, 0),
        phases={},
        step_seconds=(),
        learning_rate=math.nan,
        loss=math.nan,
    )
