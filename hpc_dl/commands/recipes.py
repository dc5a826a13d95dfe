# SPDX-License-Identifier: Apache-2.0
"""`hpc-dl recipes`: list the recipes, the time they take and the result to expect; with a name, tell all about one."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Mapping, Sequence

from hpc_dl import arguments, recipes


def main(words: Sequence[str], environ: Mapping[str, str]) -> int:
    """Print the table of recipes, or one recipe's description and settings."""
    parser = argparse.ArgumentParser(
        prog="hpc-dl recipes", description="List the recipes: start one with `hpc-dl train NAME`."
    )
    parser.add_argument("name", nargs="?", help="show this recipe's description and settings")
    given = parser.parse_args(words)
    print(_one(given.name) if given.name else _table())
    return 0


def _table() -> str:
    rows = []
    for name in recipes.RECIPES:
        found = recipes.expectation(name)
        rows.append((name, found.time, f"{found.metric} {found.relation} {found.bound:,.10g}", found.note))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = ["  ".join([*map(str.ljust, row[:3], widths), row[3]]) for row in rows]
    return "\n".join([*lines, "", "Start one with `hpc-dl train NAME`; `hpc-dl recipes NAME` tells more."])


def _one(name: str) -> str:
    settings = arguments.to_toml(recipes.load(name))
    description = importlib.import_module(recipes.RECIPES[name].split(":")[0]).__doc__ or ""
    return f"{description.strip()}\n\n{settings}"
