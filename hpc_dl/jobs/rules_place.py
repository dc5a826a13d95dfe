# SPDX-License-Identifier: Apache-2.0
"""Checks of where a job's files go and whether what it is to train can be found; looks at files, imports nothing."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path

from hpc_dl.cluster.machine import FileSystem, Machine
from hpc_dl.jobs.request import Request, complete
from hpc_dl.jobs.rules import Violation
from hpc_dl.jobs.schedulers import SCHEDULERS

NOT_ON_LOGIN_NODES = ("torch", "intel_extension_for_pytorch")
"""Packages that only the job's modules bring: their absence here says nothing."""


def place_violations(request: Request, machine: Machine) -> Iterator[Violation]:
    """What is wrong with the folders of a request whose run_folder is set."""
    request = complete(request, machine)
    folder = Path(request.run_folder)
    parent = next((path for path in folder.parents if path.exists()), None)
    if parent is None or not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        rule = "the run's folder can be made and written before submission: the scheduler opens its log there"
        yield Violation(rule, f"folder {folder}", "--folder PATH you may write to", "sbatch(1), qsub(1B): output files")
    scheduler = SCHEDULERS.get(machine.scheduler)
    if scheduler is not None and (odd := scheduler.refuses_folder(request.run_folder)):
        rule = f"{scheduler.name} cannot carry the folder of submission"
        yield Violation(rule, f"{odd} in {request.run_folder!r}", "--folder of plain letters", "qsub(1B), -v and -o")
    yield from _file_system(folder, request, machine)
    environment = request.python_environment
    if environment and not (Path(environment) / "bin" / "activate").exists():
        rule = "--environment is the folder of a virtual environment, with bin/activate in it"
        yield Violation(rule, f"environment {environment}", "python -m venv FOLDER", "venv documentation")


def _file_system(folder: Path, request: Request, machine: Machine) -> Iterator[Violation]:
    system = _system_of(folder, machine.file_systems)
    if system is None:
        return
    good = next((other for other in machine.file_systems if not other.runs_refused and other.path), system)
    source = f"{system.source} ({system.date})"
    if system.runs_refused:
        rule = f"{system.path} is for {system.use}"
        yield Violation(rule, f"folder {folder}", f"--folder under {good.path}", source)
    if machine.job.file_systems_required and system.name not in request.file_systems:
        rule = "a job names the file systems it writes to"
        legal = f"--filesystems {':'.join([*request.file_systems, system.name])}"
        yield Violation(rule, f"{folder} is on {system.name}, which the job does not name", legal, source)


def _system_of(folder: Path, systems: Iterable[FileSystem]) -> FileSystem | None:
    return next((system for system in systems if system.path and folder.is_relative_to(system.path)), None)


def path_violations(request: Request, machine: Machine) -> Iterator[Violation]:
    """Files of the ranks' command that are not there."""
    for path in complete(request, machine).payload.paths:
        if not (Path(request.work_folder) / path).exists():
            rule = "relative paths start where the job is submitted from"
            found = f"there is no {path} in {request.work_folder}"
            yield Violation(rule, found, "-- python PATH/OF/SCRIPT.py", "docs/jobs.md, a script of your own")


def import_violations(paths: Mapping[str, str], folders: Sequence[str] = ()) -> Iterator[Violation]:
    """Settings whose "package.module:name" is not there.

    Args:
        paths: Setting name to import path.
        folders: Searched before this Python's own: the folder the job starts in.
    """
    for setting, path in paths.items():
        if problem := _missing(path, folders):
            rule = f"{setting} names something that can be imported"
            yield Violation(rule, f"{path}: {problem}", f"--{setting} package.module:name", "hpc-dl train --help")


def _missing(path: str, folders: Sequence[str]) -> str:
    """Why the object would not be found, without importing its module; empty where it would, or where none can tell."""
    module, _, name = path.partition(":")
    first, *rest = module.split(".")
    if first in NOT_ON_LOGIN_NODES:
        return ""
    spec = PathFinder.find_spec(first, folders) or find_spec(first)
    for depth, part in enumerate(rest, start=1):
        if spec is None or spec.submodule_search_locations is None:
            break
        spec = PathFinder.find_spec(".".join((first, *rest[:depth])), spec.submodule_search_locations)
        if spec is None:
            return f"there is no {part} in {'.'.join((first, *rest[: depth - 1]))}"
    if spec is None:
        return f"there is no package {first} here"
    if spec.name != module:
        return f"{spec.name} is no package"
    return _undefined(name, spec)


def _undefined(name: str, spec: ModuleSpec) -> str:
    if spec.origin is None or not spec.origin.endswith(".py"):
        return ""
    try:
        tree = ast.parse(Path(spec.origin).read_bytes())
    except (OSError, SyntaxError, ValueError) as error:
        return f"{spec.origin} cannot be read: {error}"
    names = set(_top_names(tree.body))
    return "" if names & {name, "*", "__getattr__"} else f"{spec.origin} defines no {name}"


def _top_names(body: Iterable[ast.AST]) -> Iterator[str]:
    """Names a module defines at its top level, under conditions too; "*" where a star import may define any."""
    for statement in body:
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield statement.name
        elif isinstance(statement, (ast.Import, ast.ImportFrom)):
            yield from ((alias.asname or alias.name).split(".")[0] for alias in statement.names)
        elif isinstance(statement, (ast.If, ast.Try, ast.With, ast.For, ast.While)):
            for block in ("body", "orelse", "finalbody", "handlers"):
                yield from _top_names(getattr(statement, block, []))
        elif isinstance(statement, ast.ExceptHandler):
            yield from _top_names(statement.body)
        else:
            yield from (node.id for node in ast.walk(statement) if isinstance(node, ast.Name))
