# SPDX-License-Identifier: Apache-2.0
"""A table, once for every format: terminal, Markdown and HTML print the same cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Table:
    """Cells as text, ready to read."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    compact: bool = False
    """Two columns of many short facts, which a page may set side by side."""
    words: int = 0
    """How many of the first columns hold words, set to the left; numbers stand to the right."""


UNKNOWN = "–"


def filled(table: Table) -> Table:
    """Without the columns in which no row has anything."""
    kept = [column for column, cells in enumerate(zip(*table.rows, strict=True)) if set(cells) != {UNKNOWN}]
    rows = tuple(tuple(row[column] for column in kept) for row in table.rows)
    words = sum(column < table.words for column in kept)
    return replace(table, headings=tuple(table.headings[column] for column in kept), rows=rows, words=words)


def as_text(table: Table) -> str:
    """For a terminal."""
    rows = [table.headings, *table.rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(_aligned(cells, widths, table.words)).rstrip() for cells in rows)


def _aligned(cells: Sequence[str], widths: Sequence[int], words: int) -> list[str]:
    return [
        cell.ljust(width) if column < words else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]


def as_markdown(table: Table) -> str:
    """For a Markdown page, with its caption above."""
    columns = len(table.headings)
    rules = ["---"] * table.words + ["---:"] * (columns - table.words)
    rows = [table.headings, rules, *table.rows]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |" for cells in rows]
    return "\n".join([*([table.caption, ""] if table.caption else []), *lines])
