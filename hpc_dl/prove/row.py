# SPDX-License-Identifier: Apache-2.0
"""One statement about the user's training, what came of it, and how rows are shown."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

Verdict = Literal["shown", "not shown", "cannot be shown"]
JSON_NAME, MARKDOWN_NAME = "prove.json", "prove.md"
WIDTH = 118


@dataclass(frozen=True)
class Row:
    """A statement and its verdict."""

    what: str
    verdict: Verdict
    """not shown: the opposite was found. cannot be shown: it does not hold by its nature, or nothing can tell."""
    why: str
    largest: float | None = None
    """The largest difference found; None where nothing was subtracted."""
    limit: float | None = None
    """The largest that is allowed."""

    @property
    def numbers(self) -> str:
        """Difference and limit in a word."""
        if self.largest is None or self.limit is None:
            return ""
        return f"{self.largest:.1e} (limit {self.limit:g})" if self.limit else f"{self.largest:.1e} (bit for bit)"


def exit_code(rows: Iterable[Row]) -> int:
    """0 where nothing was disproved, else 1."""
    return int(any(row.verdict == "not shown" for row in rows))


def to_text(row: Row) -> str:
    """A row for a terminal."""
    head = f"{row.verdict:<16}{row.what}" + (f": {row.numbers}" if row.numbers else "")
    lines = textwrap.wrap(head, WIDTH, subsequent_indent=" " * 16, break_long_words=False)
    indent = " " * 16
    for line in row.why.splitlines():
        lines += textwrap.wrap(
            line.strip(), WIDTH, initial_indent=indent, subsequent_indent=indent, break_long_words=False
        )
    return "\n".join(lines)


def to_markdown(title: str, notes: Sequence[str], rows: Iterable[Row]) -> str:
    """A page with the table of all rows."""
    table = [
        f"| {_cell(row.what)} | {row.verdict} | {row.numbers} | {_cell(row.why)} |" for row in rows
    ]  # fmt: skip
    head = ["| What | Verdict | Largest difference | Why |", "|---|---|---|---|"]
    return "\n".join([f"# {title}", "", *(f"- {note}" for note in notes), "", *head, *table, ""])


def write(folder: Path, title: str, notes: Sequence[str], rows: Sequence[Row]) -> list[Path]:
    """`prove.json` and `prove.md`; the first is what `hpc-dl report` reads (`scaling/report/proof.py`)."""
    # JSON has no infinity: such a difference is told by its verdict.
    values = [asdict(row) | {"largest": row.largest if math.isfinite(row.largest or 0) else None} for row in rows]
    content = {"version": 1, "title": title, "notes": list(notes), "rows": values}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / JSON_NAME).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    (folder / MARKDOWN_NAME).write_text(to_markdown(title, notes, rows), encoding="utf-8")
    return [folder / JSON_NAME, folder / MARKDOWN_NAME]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
