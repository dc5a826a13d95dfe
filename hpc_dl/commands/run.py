# SPDX-License-Identifier: Apache-2.0
"""`hpc-dl run`: follow a script that trains by itself, in this process and without a change to it."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from hpc_dl.errors import HpcDlError
from hpc_dl.settings import LogSettings, Settings
from hpc_dl.signals import ignore_requests

EXAMPLES = """examples:
  hpc-dl run --global-batch 128 -- python train.py --epochs 3
  mpiexec -n 2 hpc-dl run --local-batch 64 --folder runs/mine -- python train.py
  torchrun --nproc-per-node 2 -m hpc_dl.cli run --global-batch 128 -- train.py

The script brings its ranks together itself, by torch.distributed or Horovod; hooks tell where its steps begin and end.
It gets a log for `hpc-dl report`, and ends in time before its job does. Its checkpoints are its own."""


def main(words: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the script to its end; its exit code is that of the command."""
    before, after = _cut(words)
    asked = _parser().parse_args(before)
    command = _script(after)
    if (asked.global_batch is None) == (asked.local_batch is None):
        raise HpcDlError(
            "hpc-dl run",
            "how many samples a step takes is not known" if asked.global_batch is None else "two sizes of a batch",
            "give --global-batch, samples of a step over all ranks, or --local-batch, those of one rank",
        )
    log = LogSettings(progress=asked.progress, window_steps=asked.window_steps)
    settings = Settings(name=asked.name or Path(command[1] if command[0] == "-m" else command[0]).stem, log=log)
    settings = replace(settings, checkpoint=replace(settings.checkpoint, stop_margin_seconds=asked.stop_seconds))
    ignore_requests()
    from hpc_dl.run.script import Script

    Script(command, asked.global_batch, asked.local_batch, asked.folder, settings)()
    return 0


def _cut(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The command's own words, and the script's."""
    words = list(words)
    place = words.index("--") if "--" in words else len(words)
    return words[:place], words[place + 1 :]


def _script(words: Sequence[str]) -> list[str]:
    """The script and its arguments, without the word python.

    Raises:
        HpcDlError: It is none that this Python could run.
    """
    words = list(words)
    if words and Path(words[0]).name.startswith("python"):
        interpreter = shutil.which(words[0])
        if interpreter is None or not os.path.samefile(interpreter, sys.executable):
            raise HpcDlError(
                f"hpc-dl run -- {words[0]}",
                f"it is {interpreter or 'not there'}, and this is {sys.executable}",
                "run hpc-dl by that Python (PYTHON -m hpc_dl.cli run ...)",
            )
        words = words[2:] if words[1:2] == ["-u"] else words[1:]
    is_module = len(words) > 1 and words[0] == "-m"
    if not words or not (is_module or Path(words[0]).is_file()):
        raise HpcDlError(
            f"hpc-dl run -- {' '.join(words)}".rstrip(),
            "no Python script to run" if not words else f"{words[0]} is no file",
            "name the script after --, as in: hpc-dl run --global-batch 128 -- python train.py",
        )
    return words


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "hpc-dl run",
        usage="hpc-dl run [OPTION ...] -- [python] SCRIPT [ARGUMENT ...]",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--global-batch", type=int, metavar="SAMPLES", help="of a step over all ranks")
    parser.add_argument("--local-batch", type=int, metavar="SAMPLES", help="of a step on each rank")
    parser.add_argument("--folder", help="of the log; by default a new one in runs/")
    parser.add_argument("--name", default="", help="label in reports; by default the script's name")
    parser.add_argument("--window-steps", type=int, default=10, help="steps per line of the log (default: %(default)s)")
    parser.add_argument("--progress", choices=("auto", "bar", "lines", "none"), default="auto")
    parser.add_argument(
        "--stop-seconds",
        type=float,
        default=60.0,
        help="how long before the job's end (HPC_DL_JOB_END) the script is left (default: %(default)s)",
    )
    return parser
