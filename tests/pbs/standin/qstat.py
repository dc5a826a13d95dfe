# SPDX-License-Identifier: Apache-2.0
"""qstat of the stand-in: default, full and JSON forms of jobs, and the server's list of file systems (qstat(1B))."""

from __future__ import annotations

import getopt
import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from standin.site import Site, load_site

OPTIONS = "aeinpqrstwxu:fGHJMQEBW:T1F:D:"
UNKNOWN_JOB, FINISHED = 153, 35
"""PBSE_UNKJOBID and PBSE_HISTJOBID modulo 256."""


def main(folder: str, *words: str) -> int:
    """Print what is asked for; jobs that ended show only with -x or -H, or -f -x."""
    site = load_site(folder)
    try:
        pairs, names = getopt.gnu_getopt(list(words), OPTIONS)
    except getopt.GetoptError as error:
        print(f"qstat: {error.msg}\nusage: qstat [-f] [-x] [job_identifier...]", file=sys.stderr)
        return 2
    options = {option[1]: value for option, value in pairs}
    if unsupported := set(options) & set("qQGMTJ"):
        print(f"qstat: -{min(unsupported)} is valid, but this stand-in cannot do it", file=sys.stderr)
        return 99
    if "B" in options:
        print(
            f"Server: {site.server}\n    server_state = Active\n    resources_available.valid_filesystems = home,flare"
        )
        return 0
    jobs, code = _select(site, names, history="x" in options or "H" in options)
    if "u" in options:
        jobs = [job for job in jobs if job["owner"] in options["u"].split(",")]
    if "f" in options and options.get("F") == "json":
        print(json.dumps(_json(site, jobs), indent=4))
    elif "f" in options:
        print("".join(_full(job) for job in jobs), end="")
    elif jobs:
        print(_table(jobs, wide="w" in options))
    return code


def _select(site: Site, names: Sequence[str], history: bool) -> tuple[list[dict[str, Any]], int]:
    if not names:
        return [job for job in site.jobs().values() if history or job["state"] != "F"], 0
    jobs, code = [], 0
    for name in names:
        job = site.job(name)
        if job is None:
            print(f"qstat: Unknown Job Id {site.full_name(name)}", file=sys.stderr)
            code = UNKNOWN_JOB
        elif job["state"] == "F" and not history:
            print(
                f"qstat: {job['id']} Job has finished, use -x or -H to obtain historical job information",
                file=sys.stderr,
            )
            code = FINISHED
        else:
            jobs.append(job)
    return jobs, code


def _attributes(job: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of a job in the order of qstat -f."""
    used = max(0, int(job.get("end_time", time.time()) - job["start_time"])) if "start_time" in job else None
    found: dict[str, Any] = {"Job_Name": job["name"], "Job_Owner": f"{job['owner']}@standin-login"}
    if used is not None:
        found["resources_used"] = {"walltime": _clock(used)}
    found |= {"job_state": job["state"], "queue": job["queue"], "server": job["id"].partition(".")[2]}
    if job["account"]:
        found["Account_Name"] = job["account"]
    found["ctime"] = time.ctime(job["ctime"])
    if job["nodes"]:
        found["exec_host"] = "+".join(f"{node.split('.')[0]}/0*208" for node in job["nodes"])
    found["mtime"] = time.ctime(job["mtime"])
    nodes = sum(count for count, _ in job["chunks"])
    found["Resource_List"] = {"nodect": nodes, **job["resources"], "walltime": _clock(job["walltime_seconds"])}
    found["Variable_List"] = {"PBS_O_WORKDIR": job["directory"], **job["variables"]}
    if job["comment"]:
        found["comment"] = job["comment"]
    if job["exit_status"] is not None:
        found["Exit_status"] = job["exit_status"]
    return found


def _clock(seconds: int) -> str:
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def _json(site: Site, jobs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "timestamp": int(time.time()),
        "pbs_version": "23.06.06",
        "pbs_server": site.server,
        "Jobs": {job["id"]: _attributes(job) for job in jobs},
    }


def _full(job: Mapping[str, Any]) -> str:
    lines = [f"Job Id: {job['id']}"]
    for name, value in _attributes(job).items():
        if name == "Variable_List":
            lines.append(_folded(f"    {name} = " + ",".join(f"{key}={text}" for key, text in value.items())))
        elif isinstance(value, dict):
            lines += [f"    {name}.{key} = {text}" for key, text in value.items()]
        else:
            lines.append(_folded(f"    {name} = {value}"))
    return "\n".join(lines) + "\n\n"


def _folded(line: str) -> str:
    """Lines of at most 79 characters, the second and following behind a tab."""
    rest = range(79, len(line), 71)
    return "\n\t".join([line[:79], *(line[start : start + 71] for start in rest)])


def _table(jobs: Sequence[Mapping[str, Any]], wide: bool) -> str:
    width = 30 if wide else 17
    rule = "-" * width + "  ---------------- ----------------  -------- - -----"
    lines = [f"{'Job id':<{width}}  {'Name':<16} {'User':<16}  Time Use S Queue", rule]
    for job in jobs:
        name = job["id"] if len(job["id"]) <= width else job["id"][: width - 1] + "*"
        used = "0" if "start_time" not in job else "00:00:00"
        lines.append(
            f"{name:<{width}}  {job['name'][:16]:<16} {job['owner'][:16]:<16}  {used:>8} {job['state']} {job['queue']}"
        )
    return "\n".join(lines)
