# SPDX-License-Identifier: Apache-2.0
"""`hpc-dl job show|submit|status|cancel|environment`: one batch job, from the request to its end."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from hpc_dl.commands.train import read_settings
from hpc_dl.errors import HpcDlError
from hpc_dl.jobs import environment, options, script
from hpc_dl.jobs.check import check
from hpc_dl.jobs.rules import violations
from hpc_dl.jobs.submit import Job, Submitted, cancel, prepare, refuse_used_folder, status, submit, submitted
from hpc_dl.jobs.words import command


def main(words: Sequence[str], environ: Mapping[str, str]) -> int:
    """Do what the verb says."""
    takes_command = words[:1] and words[0] in ("show", "submit")
    chosen = options.parse(_parser(), words) if takes_command else _parser().parse_args(words)
    return int(chosen.run(chosen, environ, words))


def _show(chosen: argparse.Namespace, environ: Mapping[str, str], words: Sequence[str]) -> int:
    machine = options.find_machine(chosen, environ)
    request = options.request_of(chosen, options.payload_of(chosen), chosen.nodes)
    print(script.render(request, machine), end="")
    for violation in violations(request, machine) if request.payload.words else []:
        print(f"hpc-dl: `hpc-dl job submit` would refuse it: {violation}", file=sys.stderr)
    return 0


def _submit(chosen: argparse.Namespace, environ: Mapping[str, str], words: Sequence[str]) -> int:
    machine = options.find_machine(chosen, environ)
    payload = options.payload_of(chosen, read_settings)
    if not payload.words:
        raise HpcDlError(
            "hpc-dl job submit",
            "it does not say what to train",
            "add a recipe: ... mnist_cnn --training.epochs 5, or a command: ... -- python train.py",
        )
    stamp = time.strftime("%Y%m%d-%H%M%S")
    folder = Path(chosen.folder or f"runs/{payload.name}-{machine.name}-{chosen.nodes}nodes-{stamp}").resolve()
    request = options.request_of(chosen, payload, chosen.nodes, str(Path.cwd()), str(folder))
    request = replace(request, chain=chosen.chain)
    if not request.resumes and not payload.resumes:
        refuse_used_folder(folder)
    check(request, machine, _warn if chosen.force else None)
    job = prepare(request, machine, ["hpc-dl", "job", *words])
    if chosen.dry_run:
        _print_job(job)
        return 0
    print(f"{' '.join(submit(job, environ))}  {folder}")
    return 0


def _warn(text: str) -> None:
    print(f"hpc-dl: warning: {text}", file=sys.stderr)


def _print_job(job: Job) -> None:
    times = f", {job.chain} times, each after the one before" if job.chain > 1 else ""
    print(f"# Nothing was submitted. The folder would be {job.folder}, the command there: {command(job.words)}{times}")
    for name, text in job.files.items():
        print(
            f"\n# --- {name}, {len(text.splitlines())} lines" + ("" if name.startswith("launch/") else f"\n{text}"),
            end="",
        )
    print()


def _status(chosen: argparse.Namespace, environ: Mapping[str, str], words: Sequence[str]) -> int:
    for job in _jobs(chosen.folder):
        found = status(job, environ)
        code = "" if found.exit_code is None else f", exit status {found.exit_code}"
        print(f"{job.job_id}  {found.state} ({found.raw}{code})  {found.detail or job.folder}")
    return 0


def _cancel(chosen: argparse.Namespace, environ: Mapping[str, str], words: Sequence[str]) -> int:
    code = 0
    for job in reversed(_jobs(chosen.folder)):  # the end of a chain first: it would start when its beginning is gone
        found = status(job, environ)
        try:
            if not found.over:
                cancel(job, environ)
        except HpcDlError as error:  # the others are to be cancelled all the same
            print(f"{job.job_id}  {error}", file=sys.stderr)
            code = 1
            continue
        print(f"{job.job_id}  {f'over already ({found.raw})' if found.over else 'cancelled'}")
    return code


def _jobs(folders: Sequence[Path]) -> list[Submitted]:
    return [job for folder in folders for job in submitted(folder)]


def _environment(chosen: argparse.Namespace, environ: Mapping[str, str], words: Sequence[str]) -> int:
    print(environment.render(options.find_machine(chosen, environ)), end="")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hpc-dl job", description="One batch job: show, check, submit, watch, cancel."
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    show = verbs.add_parser("show", help="print the job script; nothing is written or submitted")
    options.add_options(show)
    show.set_defaults(run=_show)
    sub = verbs.add_parser("submit", help="check a request, write the run's folder and submit")
    sub.add_argument("--folder", default="", metavar="PATH", help="the run's folder (default: a new one under runs/)")
    sub.add_argument(
        "--chain", type=int, default=1, metavar="N", help="submit N jobs, each going on where the one before stopped"
    )
    sub.add_argument("--dry-run", action="store_true", help="check, and show everything that would be written and run")
    options.add_options(sub)
    sub.set_defaults(run=_submit)
    for name, run, text in (("status", _status, "where jobs are"), ("cancel", _cancel, "end jobs")):
        verb = verbs.add_parser(name, help=text)
        verb.add_argument("folder", nargs="+", type=Path, help="folder of a run that was submitted")
        verb.set_defaults(run=run)
    env = verbs.add_parser("environment", help="print the environment of a machine's jobs, as launch/ holds it")
    env.add_argument("--machine", default="", metavar="NAME", help="a machine or the TOML file of one")
    env.set_defaults(run=_environment)
    return parser
