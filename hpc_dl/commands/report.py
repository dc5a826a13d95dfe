# SPDX-License-Identifier: Apache-2.0
"""`hpc-dl report`: the scaling report of any number of runs, or whether a change between two sets of runs is real."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Print the table and the verdict, and write the files."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if bool(options.runs) == bool(options.compare):
        parser.error("name runs, or two sides to --compare")
    text, written = _compare(options) if options.compare else _report(options)
    print(text)
    print("\nWritten: " + ", ".join(str(path) for path in written))
    return 0


def _report(options: argparse.Namespace) -> tuple[str, list[Path]]:
    from hpc_dl import report
    from hpc_dl.report import markdown
    from hpc_dl.report.study import Question, read_study

    question = Question(
        baseline=options.baseline,
        target=options.target_efficiency,
        epochs=options.epochs,
        predict=not options.no_prediction,
        machine=options.machine,
    )
    study = read_study(options.runs, question)
    return markdown.terminal(study), report.write(study, options.output)


def _compare(options: argparse.Namespace) -> tuple[str, list[Path]]:
    from hpc_dl.report import comparison
    from hpc_dl.scaling.compare import read_comparison

    found = read_comparison(*options.compare)
    return comparison.terminal(found), comparison.write(found, options.output)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hpc-dl report",
        usage="hpc-dl report RUN [RUN ...] [options]\n       hpc-dl report --compare BEFORE AFTER [--output FOLDER]",
        description="Throughput, speed-up and efficiency of runs, with 95 % intervals.",
    )
    add = parser.add_argument
    add("runs", nargs="*", type=Path, metavar="RUN", help="run folders, folders that hold runs, or one CSV file")
    add(
        "--compare",
        nargs=2,
        type=Path,
        metavar=("BEFORE", "AFTER"),
        help="say whether the runs in AFTER are faster or slower than those in BEFORE",
    )
    add("--output", type=Path, default=Path("report"), metavar="FOLDER", help="where to write (default: report)")
    add(
        "--baseline",
        default="smallest",
        metavar="SIZE",
        help="what efficiency refers to: smallest (default), one-rank, one-node, or the name of a run",
    )
    add(
        "--target-efficiency",
        type=float,
        default=0.8,
        metavar="E",
        help="efficiency that the recommended size keeps (default: 0.8)",
    )
    add("--epochs", type=int, default=0, metavar="N", help="epochs to ask computing time for, for the proposal page")
    add("--machine", default="", metavar="NAME", help="machine record for the prediction (see hpc-dl machines)")
    add("--no-prediction", action="store_true", help="say nothing of sizes that were not measured")
    return parser
