# SPDX-License-Identifier: Apache-2.0
"""`hpc-dl train NAME`: train a recipe, or the model and data of a TOML file, on this rank."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from hpc_dl import arguments, recipes
from hpc_dl.cluster.rank import detect_rank
from hpc_dl.errors import HpcDlError
from hpc_dl.settings import Settings
from hpc_dl.signals import ignore_requests

USAGE = """usage: hpc-dl train [--group.setting VALUE ...] NAME|FILE.toml [--group.setting VALUE ...] [--print_settings]

Trains a recipe by name (`hpc-dl recipes` lists them) or the model and data of a TOML file, on one process, or started
by mpiexec, srun or torchrun on many. A TOML file may begin with `recipe = "NAME"` and changes what it names.
--print_settings shows the effective settings as TOML and trains nothing."""


PRINT = "--print_settings"


def main(words: Sequence[str], environ: Mapping[str, str]) -> int:
    """Train; 0 when training came to its end, or stopped with a checkpoint because it was asked to."""
    started = time.time()
    if not words or {"-h", "--help"} & set(words):
        print(USAGE, end="\n\n")
        arguments.settings_parser("hpc-dl train NAME", Settings()).print_help()
        return 0 if words else 2
    try:
        settings = read_settings(*split([word for word in words if word != PRINT]))
    except HpcDlError:
        if detect_rank(environ).rank == 0:  # all ranks read the same words: one of them speaks
            raise
        return 2
    if PRINT in words:
        print(arguments.to_toml(settings), end="")
        return 0
    ignore_requests()
    from hpc_dl.train import train

    train(settings, environ, started)
    sys.stdout.flush()
    return 0


def split(words: Sequence[str]) -> tuple[str, list[str]]:
    """The recipe or file among the words, and the flags before and behind it."""
    flags: list[str] = []
    rest = iter(words)
    for word in rest:
        if not word.startswith("--"):
            return word, [*flags, *rest]
        flags.append(word)
        if "=" not in word:
            flags.extend(itertools.islice(rest, 1))
    raise HpcDlError(
        f"hpc-dl train {' '.join(words)}", "no recipe and no TOML file", "`hpc-dl recipes` lists the recipes"
    )


def read_settings(target: str, flags: Sequence[str]) -> Settings:
    """The settings of a recipe or TOML file with flags on top."""
    path = Path(target)
    if path.suffix == ".toml":
        values = arguments.read_toml(path)
        base = recipes.load(values.pop("recipe")) if "recipe" in values else Settings(name=path.stem)
        base = arguments.from_mapping(base, values, str(path))
    else:
        base = recipes.load(target)
    return arguments.from_flags(base, flags)
