# SPDX-License-Identifier: Apache-2.0
"""qsub of the stand-in: check the request, write the job's record, start the process that will run it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from standin.request import Refused, Request
from standin.site import TESTS_PBS, Site, load_site


def main(folder: str, *words: str) -> int:
    """Submit a job; prints its id."""
    if words == ("--version",):
        print("pbs_version = 23.06.06")
        return 0
    site = load_site(folder)
    try:
        job = _queue(site, list(words), os.environ)
    except Refused as refusal:
        print(refusal, file=sys.stderr)
        return refusal.code
    log = (site.folder / "spool" / f"{job['sequence']}.mom.log").open("w")
    command = [sys.executable, str(TESTS_PBS / "run_standin.py"), "mom", folder, str(job["sequence"])]
    subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/")
    if "z" not in job["options"]:
        print(job["id"])
    return 0


def _queue(site: Site, words: list[str], environ: Mapping[str, str]) -> dict[str, Any]:
    request = Request()
    request.add(words)
    script = _script(request)
    request.add_script(script)
    request.options.setdefault("N", _script_name(request))
    request.check(set(site.chunk_resources), set(site.job_resources))
    for letter in "IJX":
        if letter in request.options:
            raise Refused(f"-{letter} is valid, but this stand-in cannot do it", 99)
    queue = _destination(site, request)
    _check_site(site, request, queue)
    variables = request.variables(environ)
    with site.locked():
        sequence = len(site.jobs()) + 1
        spooled = site.folder / "spool" / f"{sequence}.SC"
        spooled.write_text(script)
        spooled.chmod(0o700)
        job = _record(site, request, queue, sequence, environ) | {"variables": variables, "script": str(spooled)}
        site.save(job)
    return job


def _script(request: Request) -> str:
    if request.executable:
        return ""
    if not request.operands or request.operands == ["-"]:
        return sys.stdin.read()
    path = Path(request.operands[0])
    if not path.exists():
        raise Refused("script file:: No such file or directory")
    if not path.is_file():
        raise Refused("script not a file")
    try:
        return path.read_text()
    except PermissionError:
        raise Refused("opening script file:: Permission denied", 8) from None


def _script_name(request: Request) -> str:
    return Path(request.operands[0]).name if request.operands and request.operands != ["-"] else "STDIN"


def _destination(site: Site, request: Request) -> str:
    queue, _, server = request.options.get("q", "").partition("@")
    if server not in ("", site.server):
        raise Refused("Unknown Host.", 160)
    if (queue or site.default_queue) not in site.queues:
        raise Refused("Unknown queue", 170)
    return queue or site.default_queue


def _check_site(site: Site, request: Request, queue: str) -> None:
    """What the site demands, as ALCF's hook words it (exit code 32), and the queue's limits, as the server does."""
    for name in site.must_have:
        if name == "Account_Name" and not request.options.get("A"):
            raise Refused("Account_Name is required to be set.", 32)
        if name != "Account_Name" and name not in request.resources:
            raise Refused(f"Resource: {name} is required to be set.", 32)
    nodes = sum(count for count, _ in request.chunks())
    limits = site.queues[queue]
    seconds = request.walltime_seconds
    within = limits.nodes[0] <= nodes <= limits.nodes[1]
    if seconds is not None:
        within = within and limits.walltime_seconds[0] <= seconds <= limits.walltime_seconds[1]
    if not within:
        raise Refused("Job violates queue and/or server resource limits", 188)


def _record(site: Site, request: Request, queue: str, sequence: int, environ: Mapping[str, str]) -> dict[str, Any]:
    now = time.time()
    return {
        "id": f"{sequence}.{site.server}",
        "sequence": sequence,
        "name": request.options["N"],
        "owner": environ.get("LOGNAME", environ.get("USER", "user")),
        "state": "Q",
        "queue": queue,
        "account": request.options.get("A", ""),
        "options": request.options,
        "resources": {"walltime": "01:00:00", **request.resources},
        "chunks": request.chunks(),
        "walltime_seconds": request.walltime_seconds or 3600,
        "depend": request.attributes.get("depend", ""),
        "executable": request.executable,
        "directory": str(Path.cwd()),
        "submitted_from": {
            name: environ[name] for name in ("HOME", "LANG", "PATH", "SHELL", "TZ", "MAIL") if name in environ
        },
        "nodes": [],
        "exit_status": None,
        "comment": "",
        "delete": False,
        "ctime": now,
        "mtime": now,
    }
