# SPDX-License-Identifier: Apache-2.0
"""`hpc-dl`: the table of verbs. Each verb is a file of `commands/`, imported only when it is asked for."""

from __future__ import annotations

import importlib
import os
import select
import sys
from collections.abc import Sequence

from hpc_dl.environment import environment
from hpc_dl.errors import HpcDlError, nearest

COMMANDS = {
    "train": "train a recipe or your own model, on one process or under mpiexec and srun",
    "run": "follow a script that trains by itself: its log, its step times, its end in time",
    "recipes": "list the recipes",
    "prove": "show that your own training gives the same numbers on any number of ranks",
    "report": "scaling report of any number of runs",
    "export": "results of runs to TensorBoard, MLflow, W&B, CSV or Prometheus",
    "checkpoint": "show a checkpoint, or export its model to safetensors",
    "predict": "step time and efficiency at machine sizes not yet measured",
    "bench": "measure collectives and fit latency and bandwidth",
    "machines": "the supercomputers hpc_dl knows",
    "job": "show, check, submit, watch or cancel a batch job",
    "sweep": "run a scaling study in one command",
    "doctor": "check this place, or explain a failed job's log",
}
USER_ERROR = 2
SOME_WERE_LEFT = 141
"""As of a command that dies by SIGPIPE."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; the return value is the exit code (0 good, 2 a request that cannot be met)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        print(_overview())
        return 0 if words else USER_ERROR
    if words[0] == "--version":
        from hpc_dl import __version__

        print(__version__)
        return 0
    try:
        if words[0] not in COMMANDS:
            raise HpcDlError(f"hpc-dl {words[0]}", "no such command", nearest(words[0], COMMANDS))
        command = importlib.import_module(f"hpc_dl.commands.{words[0]}")
        code = int(command.main(words[1:], environment()))
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # `hpc-dl ... | head` has read enough; nothing more may be written, at exit neither
        if not _reader_has_left():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return SOME_WERE_LEFT
    except HpcDlError as error:
        print(f"hpc-dl: {error}", file=sys.stderr)
        return USER_ERROR


def _reader_has_left() -> bool:
    """Is it stdout that broke, rather than a pipe of the command's own?"""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return bool(poll.poll(0))


def _overview() -> str:
    width = max(map(len, COMMANDS))
    rows = "\n".join(f"  {name:<{width}}  {summary}" for name, summary in COMMANDS.items())
    return (
        "usage: hpc-dl COMMAND [ARGUMENT ...]\n\n"
        "Data-parallel training on supercomputers.\n\n"
        f"{rows}\n\n"
        "hpc-dl COMMAND --help tells more; hpc-dl --version names the release."
    )


if __name__ == "__main__":
    sys.exit(main())
