# SPDX-License-Identifier: Apache-2.0
"""The table of log signatures, `signatures.toml`, as values."""

from __future__ import annotations

import functools
import re
import sys
from pathlib import Path
from typing import Literal, NamedTuple

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Weight = Literal["cause", "ambiguous", "cascade", "harmless"]
ORDER: tuple[Weight, ...] = ("cause", "ambiguous", "cascade", "harmless")
"""From what explains a failure to what can be left aside."""
TABLE = Path(__file__).with_suffix(".toml")


class Signature(NamedTuple):
    """One kind of message."""

    name: str
    weight: Weight
    pattern: re.Pattern[str]
    meaning: str
    """May quote the pattern's named groups."""
    advice: str
    source: str


@functools.cache
def signatures() -> tuple[Signature, ...]:
    """All rows; the first that matches a line takes it."""
    rows = tomllib.loads(TABLE.read_text(encoding="utf-8"))["signature"]
    return tuple(Signature(**{**row, "pattern": re.compile(row["pattern"])}) for row in rows)
