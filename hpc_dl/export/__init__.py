# SPDX-License-Identifier: Apache-2.0
"""Where else should a run's results be? Each destination is a module that takes the same facts and scalars."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path

from hpc_dl.errors import HpcDlError, nearest
from hpc_dl.export.results import Results, read_results

DESTINATIONS = {
    "tensorboard": "hpc_dl.export.tensorboard",
    "mlflow": "hpc_dl.export.mlflow",
    "wandb": "hpc_dl.export.wandb",
    "csv": "hpc_dl.export.csv",
    "openmetrics": "hpc_dl.export.openmetrics",
}
"""Modules with `write(results, output)`: where results are then, in words. An empty `output` is the usual place."""


def export(runs: Sequence[Path], to: str, output: str = "") -> list[tuple[Results, str]]:
    """Write runs to a destination; the results of each, and where they are. Once more is no harm, and finds the new.

    Args:
        runs: Run folders, or their logs; jobs may still write them.
        to: One of `DESTINATIONS`.
        output: Where, as the destination understands it: a folder, or the address of a server.

    Raises:
        HpcDlError: There is no such destination, its package is missing, or two runs have one name.
    """
    if to not in DESTINATIONS:
        raise HpcDlError(f"export --to {to}", "no such destination", nearest(to, DESTINATIONS))
    destination = importlib.import_module(DESTINATIONS[to])
    found: dict[str, Results] = {}
    for run in runs:
        results = read_results(run)
        if results.name in found:
            raise HpcDlError(
                f"export of {found[results.name].folder} and {results.folder}",
                f"both are named {results.name}, and one would take the other's place",
                "export each to an --output of its own",
            )
        found[results.name] = results
    return [(results, destination.write(results, output)) for results in found.values()]
