# SPDX-License-Identifier: Apache-2.0
"""Checks of folders, space and limits."""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path

from hpc_dl.doctor.finding import Finding
from hpc_dl.doctor.scene import Scene

LONGEST_TEMPORARY = 60
"""Characters of TMPDIR: a socket's path may have 107 (unix(7)), and libraries append up to 45 of their own."""
FEW_FILES = 4096
"""Level Zero's IPC handles and one descriptor per peer exhaust the usual 1024 (oneCCL, README.md)."""
LITTLE_SPACE_BYTES = 1 << 30
SLOW_SECONDS = 5.0
PROBE_BYTES = 8 << 20


def check_run_folder(scene: Scene) -> Finding | None:
    """Write, sync, rename and read a file where the run is going to."""
    name, folder = "run folder", scene.folder.absolute()
    if not scene.writes:
        return None
    for system in scene.machine.file_systems:
        if system.runs_refused and system.path and folder.is_relative_to(system.path):
            better = [place.path for place in scene.machine.file_systems if place.path and not place.runs_refused]
            remedy = f"use a folder on {' or '.join(better)}"
            return Finding(name, "fail", f"{folder} is on {system.name}: {system.use}", remedy)
    try:
        seconds = probe(folder)
    except OSError as error:
        return Finding(name, "fail", f"cannot write in {folder}: {error.strerror}", _write_remedy(error))
    text = f"{folder}: {PROBE_BYTES >> 20} MB written, synced, renamed and read in {seconds:.2f} s"
    if seconds > SLOW_SECONDS:
        return Finding(name, "warn", text, "expect slow checkpoints here; use the machine's scratch file system")
    return Finding(name, "ok", text)


def probe(folder: Path) -> float:
    """Do in a folder what a checkpoint does, and clean up; returns seconds."""
    started = time.perf_counter()
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".doctor-{uuid.uuid4().hex}"
    final = part.with_suffix(".done")
    content = os.urandom(PROBE_BYTES)
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(final)
        if final.read_bytes() != content:
            raise OSError(5, "what was read is not what was written")
    finally:
        part.unlink(missing_ok=True)
        final.unlink(missing_ok=True)
        for place in made:
            if place.is_dir() and not any(place.iterdir()):
                place.rmdir()
    return time.perf_counter() - started


def _write_remedy(error: OSError) -> str:
    if error.errno in (28, 122):  # ENOSPC, EDQUOT
        return "free space or quota there, or name another folder with --folder"
    return "name a folder you may write to with --folder (and --log.folder in training)"


def check_temporary_length(scene: Scene) -> Finding | None:
    """A long TMPDIR ends in "AF_UNIX path too long" (ALCF user guides, aurora/known-issues.md)."""
    length = len(str(scene.temporary))
    if length <= LONGEST_TEMPORARY:
        return Finding("TMPDIR length", "ok", f"{scene.temporary} ({length} characters)")
    found = f"TMPDIR has {length} characters; sockets in it fail with 'AF_UNIX path too long'"
    return Finding("TMPDIR length", "fail", found, "export TMPDIR=/tmp in the job script")


def check_space(scene: Scene) -> Finding | None:
    """Space for temporary files and in the home directory."""
    short = {place: free for place, free in scene.free_bytes.items() if free < LITTLE_SPACE_BYTES}
    if not short:
        listing = ", ".join(f"{place}: {free >> 30} GB" for place, free in scene.free_bytes.items())
        return Finding("free space", "ok", listing)
    found = ", ".join(f"{place} has {free >> 20} MB left" for place, free in short.items())
    remedy = "remove what you can spare (myquota shows the share); /tmp is memory on many nodes and counts as such"
    return Finding("free space", "warn", found, remedy)


def check_open_files(scene: Scene) -> Finding | None:
    """Soft limit of file descriptors."""
    soft, hard = scene.open_files
    if soft < 0 or soft >= FEW_FILES:
        return Finding("open files", "ok", f"limit {soft}")
    if hard < 0 or hard > soft:
        remedy = "`ulimit -n $(ulimit -Hn)` before the program, on every rank (launch/rank.sh does it)"
        return Finding("open files", "warn", f"the limit is {soft}, up to {hard} may be had", remedy)
    return Finding("open files", "warn", f"the hard limit is {hard}", "ask the site to raise it")


CHECKS = (check_run_folder, check_temporary_length, check_space, check_open_files)
