# SPDX-License-Identifier: Apache-2.0
"""What was shown of the training itself: the table of a `prove.json` that lies in, or beside, the runs' folders."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hpc_dl.report.table import UNKNOWN, Table

NAME = "prove.json"
VERSION = 1


def tables_of(folders: Iterable[Path]) -> tuple[Table, ...]:
    """One table for each proof found; files that are none are passed over."""
    places = dict.fromkeys(place / NAME for folder in folders for place in (folder, folder.parent))
    return tuple(table for path in places if path.is_file() and (table := _table(path)) is not None)


def _table(path: Path) -> Table | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["version"] != VERSION:
            return None
        rows = tuple(
            (row["what"], row["verdict"], _difference(row), " ".join(row["why"].split())) for row in content["rows"]
        )
        caption = f"{content['title']}: " + "; ".join(content["notes"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return Table(("what", "verdict", "largest difference", "why"), rows, caption, words=4) if rows else None


def _difference(row: dict[str, Any]) -> str:
    if row["largest"] is None or row["limit"] is None:
        return UNKNOWN
    return f"{row['largest']:.1e} (limit {row['limit']:g})"
