# SPDX-License-Identifier: Apache-2.0
"""`hpc-dl doctor`: check this place, all ranks, or the log of a failed job."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hpc_dl.checks import choices_of
from hpc_dl.cluster.rank import RankRecord, detect_rank
from hpc_dl.cluster.variables import RUN_FOLDER
from hpc_dl.doctor import log, place, scene
from hpc_dl.doctor.finding import Finding, exit_code, summary, to_json, to_text
from hpc_dl.errors import HpcDlError
from hpc_dl.settings import DeviceSettings, ExchangeSettings


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Print findings; 0 where nothing failed, 1 where something did."""
    options = _parser(environ).parse_args(arguments)
    said: list[Finding] = []

    def say(finding: Finding) -> None:
        said.append(finding)
        print(to_json(finding) if options.json else to_text(finding), flush=True)

    code = _examine(options, environ, say)
    if said and not options.json:
        print(summary(said))
    return exit_code(said) if code is None else code


def _examine(options: argparse.Namespace, environ: Mapping[str, str], say: Callable[[Finding], None]) -> int | None:
    """Say findings; returns the exit code where ranks have agreed on one."""
    if options.log is not None:
        for finding in log.read_log(options.log):
            say(finding)
        return None
    record = _rank(environ)
    here = scene.look(environ, record, options.folder, options.engine, options.device)
    if record is None or not here.under_launcher:
        for finding in place.examine(here):
            say(finding)
        return None
    from hpc_dl.doctor import ranks

    return ranks.examine(here, record.rank, options.timeout, say)


def _rank(environ: Mapping[str, str]) -> RankRecord | None:
    """None where the variables contradict each other: one of the checks says so."""
    try:
        return detect_rank(environ)
    except HpcDlError:
        return None


def _parser(environ: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hpc-dl doctor",
        description="Check this place (no torch needed); under mpiexec or srun, all ranks among each other; with a "
        "LOG, name the likely cause of a failed job. The exit code is 1 where something failed.",
    )
    parser.add_argument("log", nargs="?", type=Path, metavar="LOG", help="output file of a failed job")
    parser.add_argument("--json", action="store_true", help="one finding per line: name, verdict, found, remedy")
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path(environ.get(RUN_FOLDER) or "runs"),
        help=f"where runs are going to be written (default: {RUN_FOLDER} or runs)",
    )
    engines = [name for name in choices_of(ExchangeSettings)["engine"] if name != "single"]
    devices = choices_of(DeviceSettings)["name"]
    parser.add_argument("--engine", default="auto", choices=engines, help="engine to check")
    parser.add_argument("--device", default="auto", choices=devices, help="device to check")
    parser.add_argument(
        "--timeout", type=float, default=120.0, metavar="SECONDS", help="end a check that hangs (default: 120)"
    )
    return parser
