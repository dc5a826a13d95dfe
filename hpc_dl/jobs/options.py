# SPDX-License-Identifier: Apache-2.0
"""The options of `hpc-dl job` and `hpc-dl sweep` that describe a request, and the request they make."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hpc_dl.cluster import machines
from hpc_dl.cluster.machine import Machine
from hpc_dl.errors import HpcDlError
from hpc_dl.jobs.payload import Payload, own, training
from hpc_dl.jobs.request import Request, parse_walltime
from hpc_dl.settings import Settings


def add_options(parser: argparse.ArgumentParser, nodes: bool = True) -> None:
    """Add them; what to train takes the rest of the line."""
    default = Request()
    add = parser.add_argument
    add("--machine", default="", metavar="NAME", help="a machine or the TOML file of one (default: this one)")
    add("--name", default="", metavar="NAME", help="name of the job (default: after what it trains)")
    add("--account", default="", metavar="PROJECT", help="project to be charged")
    if nodes:
        add("--nodes", type=int, default=default.nodes, metavar="N", help=f"number of nodes (default {default.nodes})")
    add("--ranks-per-node", type=int, metavar="N", help="ranks on each node (default: one per device)")
    add(
        "--minutes",
        default=str(default.minutes),
        metavar="TIME",
        help="wall time: minutes, 36h or 1:30:00 (default 30)",
    )
    add("--queue", default="", metavar="NAME", help="queue or QOS (default: the first that takes the request)")
    add("--constraint", default="", metavar="FEATURE", help="Slurm: kind of nodes")
    add("--filesystems", default="", metavar="A:B", help="PBS at ALCF: file systems the job needs")
    add("--stack", default="", metavar="NAME", help="software stack of the machine (default: its first)")
    add("--environment", default="", metavar="FOLDER", help="virtual environment on top of the modules")
    add(
        "--cpu-bind", default="", metavar="NAME", help="CPU binding: a name from the machine's record, or list:0-7:8-15"
    )
    add("--one-device", action="store_true", help="hide all devices from a rank but its own")
    add("--rerun", action="store_true", help="let the scheduler start the job again, from its newest checkpoint")
    add("--directive", action="append", default=[], metavar="OPTION", help="a further option of sbatch or qsub")
    add("--force", action="store_true", help="go on where a rule is broken, with a warning")
    add(
        "train",
        nargs=argparse.REMAINDER,
        metavar="TRAIN ... | -- COMMAND ...",
        help="what to train, as after `hpc-dl train`; or any command, which each rank runs word by word",
    )


def parse(parser: argparse.ArgumentParser, words: Sequence[str]) -> argparse.Namespace:
    """The options. What stands behind the first `--` is a command and kept as it is, in `command`."""
    border = words.index("--") if "--" in words else len(words)
    options = parser.parse_args(words[:border])
    options.command = words[border + 1 :] if border < len(words) else None
    return options


def find_machine(options: argparse.Namespace, environ: Mapping[str, str]) -> Machine:
    """The machine asked for, or the one this is."""
    return machines.load(options.machine) if options.machine else machines.find(environ)


def payload_of(options: argparse.Namespace, read: Callable[[str, Sequence[str]], Settings] | None = None) -> Payload:
    """What each rank is to run.

    Args:
        options: As parsed.
        read: Reads the settings of a recipe or TOML file with flags; without it they are left unread.
    """
    words = " ".join(options.train)
    if options.command is not None:
        if words:
            raise HpcDlError(f"{words} -- {' '.join(options.command)}", "a training and a command", "name one of them")
        return own(options.command)
    if not words:
        return Payload()
    if re.fullmatch(r"python[\d.]*|.*\.(py|sh)", options.train[0]):
        raise HpcDlError(words, "a command, where a recipe or a TOML file is named", f"put -- in front: -- {words}")
    return training(options.train, read(options.train[0], options.train[1:]) if read else None)


def request_of(
    options: argparse.Namespace, payload: Payload, nodes: int, work_folder: str = "", run_folder: str = ""
) -> Request:
    """The request of the options; the job is named after what it runs where that makes a name."""
    fits = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,60}", payload.name)
    name = options.name or (payload.name if fits else Request().name)
    own_file = options.machine.endswith(".toml")
    return Request(
        payload=payload,
        machine=str(Path(options.machine).resolve()) if own_file else "",
        name=name,
        account=options.account,
        nodes=nodes,
        ranks_per_node=options.ranks_per_node,
        minutes=parse_walltime(options.minutes),
        queue=options.queue,
        constraint=options.constraint,
        file_systems=tuple(options.filesystems.split(":")) if options.filesystems else (),
        stack=options.stack,
        python_environment=str(Path(options.environment).resolve()) if options.environment else "",
        cpu_bind=options.cpu_bind,
        one_device=options.one_device,
        rerun=options.rerun,
        directives=tuple(options.directive),
        work_folder=work_folder,
        run_folder=run_folder,
    )
