# SPDX-License-Identifier: Apache-2.0
"""`hpc-dl export`: the results of runs to TensorBoard, MLflow, Weights & Biases, CSV or Prometheus."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from hpc_dl.export import DESTINATIONS, export


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Export, and say where each run's results are."""
    parser = argparse.ArgumentParser(
        prog="hpc-dl export",
        description="Bring the results of runs to another tool, from their logs. A job may still run: the same command "
        "brings what is new.",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folders, or their logs")
    parser.add_argument("--to", required=True, metavar="TOOL", help=", ".join(DESTINATIONS))
    parser.add_argument(
        "--output",
        default="",
        metavar="PATH",
        help="the folder (default: export/TOOL); for mlflow a tracking URI (default: MLFLOW_TRACKING_URI)",
    )
    options = parser.parse_args(arguments)
    for results, place in export(options.runs, options.to, options.output):
        print(f"{results.name}: {len(results.scalars):,} values to {place}")
        for line in results.broken:
            print(f"hpc-dl: {results.name}: left out {line}", file=sys.stderr)
    return 0
