# SPDX-License-Identifier: Apache-2.0
"""`hpc-dl report`: the scaling report of any number of runs."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Print the table of sizes and write the report's files."""
    options = _parser().parse_args(arguments)
    from hpc_dl.scaling import report
    from hpc_dl.scaling.report import markdown
    from hpc_dl.scaling.study import Question, read_study

    study = read_study(options.runs, Question(options.baseline, options.target_efficiency, options.epochs))
    written = report.write(study, options.output)
    print(markdown.terminal(study))
    print("\nWritten: " + ", ".join(str(path) for path in written))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hpc-dl report", description="Throughput, speed-up and efficiency of runs, with 95 % intervals."
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folders, or folders that hold runs")
    parser.add_argument("--output", type=Path, default=Path("report"), help="folder to write (default: report)")
    parser.add_argument(
        "--baseline",
        default="smallest",
        metavar="SIZE",
        help="what efficiency refers to: smallest (default), one-rank, one-node, or the name of a run",
    )
    parser.add_argument(
        "--target-efficiency",
        type=float,
        default=0.8,
        metavar="E",
        help="efficiency that the recommended size keeps (default: 0.8)",
    )
    parser.add_argument(
        "--epochs", type=int, default=0, metavar="N", help="epochs to ask computing time for, for the proposal page"
    )
    return parser
