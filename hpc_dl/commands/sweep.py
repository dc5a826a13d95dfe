# SPDX-License-Identifier: Apache-2.0
"""`hpc-dl sweep --nodes 1,2,4,8 --repeats 3 TRAIN ...`: a scaling study in one command, repeated until it is whole."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from hpc_dl.commands import report
from hpc_dl.commands.train import read_settings
from hpc_dl.devices.threads import read_cores, read_mask, share
from hpc_dl.errors import HpcDlError
from hpc_dl.jobs import options, sweep
from hpc_dl.jobs.check import check, check_local
from hpc_dl.jobs.study import Study
from hpc_dl.runlog.records import read_run


def main(words: Sequence[str], environ: Mapping[str, str]) -> int:
    """Start what is missing, and report once all is there; 0 unless a run failed."""
    chosen = options.parse(_parser(), words)
    study = _study(chosen, environ, words)
    if chosen.dry_run:
        print(study.commands())
        return 0
    states = study.run(chosen.wait, chosen.poll_seconds)
    print(sweep.table(states))
    missing = [state for state in states if state.state != "finished"]
    if not missing:
        print()
        return report.main([str(study.folder), "--output", str(study.folder / "report")], environ)
    print(f"\n{len(missing)} of {len(states)} runs are not finished. The same command starts what is missing;")
    print(f"`hpc-dl report {study.folder}` reports what there is.")
    return 1 if any(state.state == "failed" for state in missing) else 0


def finished(folder: Path) -> bool:
    """Does the folder's log say that training came to its end?"""
    try:
        end = read_run(folder).end
    except HpcDlError:
        return False
    return end is not None and end.reason == "finished"


def _study(chosen: argparse.Namespace, environ: Mapping[str, str], words: Sequence[str]) -> Study:
    machine = options.find_machine(chosen, environ)
    local = chosen.local or machine.scheduler == "none"
    sizes = _numbers(chosen.nodes)
    payload = options.payload_of(chosen, read_settings)
    if not payload.words:
        raise HpcDlError(
            "hpc-dl sweep",
            "it does not say what to train",
            "add it: ... mnist_cnn --training.steps 200, or ... -- python train.py",
        )
    folder = chosen.folder or f"sweeps/{payload.name}-{'local' if local else machine.name}"
    rules = check_local if local else check
    return Study(
        folder=Path(folder).resolve(),
        request=options.request_of(chosen, payload, nodes=1, work_folder=str(Path.cwd())),
        machine=machine,
        points=sweep.plan(Path(folder).resolve(), sizes, chosen.repeats),
        threads=_threads(max(sizes) * (chosen.ranks_per_node or machine.ranks_per_node)) if local else 0,
        finished=finished,
        check=lambda request: rules(request, machine, _warn if chosen.force else None),
        environ=environ,
        asked=list(words),
        say=lambda text: print(text, flush=True),
    )


def _warn(text: str) -> None:
    print(f"hpc-dl: warning: {text}", file=sys.stderr)


def _threads(ranks: int) -> int:
    """CPU threads of a rank where at most so many share this machine: the same for all sizes of a sweep."""
    mask = read_mask()
    return share([mask] * ranks, 0, read_cores(mask))


def _numbers(text: str) -> list[int]:
    pieces = text.split(",")
    if not all(piece.strip().isdigit() and int(piece) > 0 for piece in pieces):
        raise HpcDlError(f"--nodes {text}", "not a list of numbers from 1 on", "write it as 1,2,4,8")
    return list(map(int, pieces))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hpc-dl sweep",
        description="The same training, or command that logs with hpc_dl.Run, on several numbers of nodes: here over "
        "mpiexec, or as jobs under Slurm or PBS. Given again, it starts only what is missing.",
    )
    add = parser.add_argument
    add("--nodes", default="1,2,4", metavar="N,N", help="numbers of nodes (default 1,2,4)")
    add("--repeats", type=int, default=1, metavar="N", help="how often each size is run (default 1)")
    add("--folder", default="", metavar="PATH", help="folder of the sweep (default: sweeps/NAME-MACHINE)")
    add("--local", action="store_true", help="on this machine, over mpiexec, whatever scheduler it has")
    add("--wait", action="store_true", help="stay until all jobs are over, then report")
    add("--poll-seconds", type=float, default=30.0, metavar="S", help="with --wait: how often to ask the scheduler")
    add("--dry-run", action="store_true", help="show what would be started")
    options.add_options(parser, nodes=False)
    return parser
