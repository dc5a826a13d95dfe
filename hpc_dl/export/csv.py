# SPDX-License-Identifier: Apache-2.0
"""To CSV, for spreadsheets and pandas: a row for each scalar, and a row for each fact. Written anew each time."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hpc_dl.export.files import put
from hpc_dl.export.results import Results


def write(results: Results, output: str) -> str:
    """NAME.csv and NAME-facts.csv in the folder `output`."""
    folder = Path(output or "export/csv")
    rows = ((scalar.step, f"{scalar.unix_seconds:.3f}", scalar.name, scalar.value) for scalar in results.scalars)
    scalars, facts = folder / f"{results.name}.csv", folder / f"{results.name}-facts.csv"
    put(scalars, _text(("step", "unix_seconds", "name", "value"), rows))
    put(facts, _text(("name", "value"), results.facts.items()))
    return f"{scalars}, {facts.name}"


def _text(headings: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(headings)
    writer.writerows(rows)
    return text.getvalue()
