# SPDX-License-Identifier: Apache-2.0
"""Predict published scaling results from those of other systems, and judge the predictions.

python -m benchmarks.published                    the results in benchmarks/published/tables
python -m benchmarks.published TABLE.md           a table of your own (docs/predict.md has the form)
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.published.protocol import as_text, validate_table
from hpc_dl.errors import HpcDlError


def main(words: Sequence[str] | None = None) -> int:
    """Print the outcome as Markdown, and write JSON where asked; the exit code."""
    asked = _parser().parse_args(words)
    try:
        found = validate_table(asked.table, asked.folds)
    except HpcDlError as error:
        print(f"benchmarks.published: {error}", file=sys.stderr)
        return 2
    print(as_text(found))
    if asked.output:
        asked.output.write_text(json.dumps(found.as_dict(), indent=1), encoding="utf-8")
        print(f"\nwritten: {asked.output}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.published",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("table", nargs="?", type=Path, metavar="TABLE", help="Markdown or CSV; default: benchmarks/published/tables")
    add("--folds", type=int, default=10, help="over systems (default: %(default)s)")
    add("--output", type=Path, metavar="FILE", help="write all points as JSON as well")
    return parser


if __name__ == "__main__":
    sys.exit(main())
