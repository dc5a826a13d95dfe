# SPDX-License-Identifier: Apache-2.0
"""`hpc-dl prove NAME`: what of the user's own training can be shown before an allocation is spent on it."""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from hpc_dl.commands.train import read_settings, split
from hpc_dl.errors import HpcDlError

DESCRIPTION = """Trains a recipe, or the model and data of a TOML file, a few steps in float64: on one process, on
several ranks with each engine, cut and resumed. Says what is the same, by how much it differs, and what cannot be
shown. Flags of `hpc-dl train` are taken, too. The exit code is 1 where something was disproved."""


def main(words: Sequence[str], environ: Mapping[str, str]) -> int:
    """Print rows as they are found; 0 where nothing was disproved, 1 where something was."""
    chosen, rest = _parser().parse_known_args(words)
    settings = read_settings(*split(rest))
    from hpc_dl.prove import row as shown
    from hpc_dl.prove.rows import named, prove
    from hpc_dl.prove.trial_settings import small
    from hpc_dl.prove.trials import Trials, engines_of

    ranks = _numbers(chosen.ranks)
    size = small(settings, ranks, chosen.steps)
    engines, only = engines_of(chosen.engines), named(chosen.only)
    title = f"What is shown of {settings.name}"
    with _trials_folder(chosen.output, chosen.keep) as folder:
        trials = Trials(size, ranks, engines, folder, environ, chosen.minutes, _say)
        print("\n".join([title, *(f"  {note}" for note in size.notes())]), flush=True)
        rows = []
        for row in prove(trials, only):
            rows.append(row)
            print(shown.to_text(row), flush=True)
    if chosen.output:
        print("written: " + ", ".join(map(str, shown.write(Path(chosen.output), title, size.notes(), rows))))
    return shown.exit_code(rows)


@contextlib.contextmanager
def _trials_folder(output: str, keep: bool) -> Iterator[Path]:
    """Of a proof; it goes when the proof ends, unless it is to be kept."""
    if not keep:
        with tempfile.TemporaryDirectory(prefix="hpc-dl-prove-") as folder:
            yield Path(folder)
        return
    if not output:
        raise HpcDlError("--keep", "no folder is named", "name one with --output")
    if (Path(output) / "trials").exists():
        raise HpcDlError(f"--output {output}", "it holds the trials of another proof", "name another folder")
    yield Path(output) / "trials"


def _say(text: str) -> None:
    print(f"hpc-dl: {text}", file=sys.stderr, flush=True)


def _numbers(text: str) -> list[int]:
    pieces = text.split(",")
    if not all(piece.strip().isdigit() and int(piece) > 1 for piece in pieces):
        raise HpcDlError(f"--ranks {text}", "not a list of numbers from 2 on", "write it as 2,4")
    return sorted(set(map(int, pieces)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hpc-dl prove",
        usage="hpc-dl prove NAME|FILE.toml [--group.setting VALUE ...] [--ranks 2,4] [--steps N] [--output FOLDER]",
        description=DESCRIPTION,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--ranks", default="2", metavar="N,N", help="numbers of ranks to compare with one process (default: 2)")
    add("--steps", type=int, default=6, metavar="N", help="of each trial (default: 6: two epochs of few samples)")
    add("--output", default="", metavar="FOLDER", help="write prove.json and prove.md there")
    add("--keep", action="store_true", help="keep the trials, with all that they said, in FOLDER/trials")
    add("--engines", default="", metavar="NAME,NAME", help="default: all that are installed (torch, horovod)")
    add("--only", default="", metavar="ROW,ROW", help="some of the rows (docs/prove.md names them)")
    add("--minutes", type=int, default=5, metavar="N", help="the longest a trial may take (default: 5)")
    return parser
