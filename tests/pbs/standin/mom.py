# SPDX-License-Identifier: Apache-2.0
"""The life of one job: wait for its turn and its nodes, run the script, end it at the walltime, keep its output."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, BinaryIO

from standin.site import Site, enter_node, load_site

POLL_SECONDS = 0.1
WALLTIME_EXCEEDED, RETRY = -29, -3
"""Exit status of a job that ran out of walltime, and of one that could not be started (src/include/job.h)."""
TERMINATED = 256 + signal.SIGTERM
"""Exit status of a job that qdel ended: 256 plus the signal (qstat -f, Exit_status)."""


def main(folder: str, number: str) -> None:
    """Bring one job from queued to finished."""
    site, sequence = load_site(folder), int(number)
    if not (_wait_for_turn(site, sequence) and _wait_for_nodes(site, sequence)):
        return
    start = f"Job run at {time.strftime('%a %b %d at %H:%M')}"
    job = site.change(sequence, state="R", start_time=time.time(), comment=start)
    try:
        output, error = _open_output(site, job)
    except OSError:
        held = "job held, too many failed attempts to run"
        site.change(sequence, state="H", nodes=[], exit_status=RETRY, comment=held)
        return
    status = _run(site, job, output, error)
    _deliver(site, job)
    ends = {0: "finished", WALLTIME_EXCEEDED: "exceeded resource walltime", TERMINATED: f"terminated by {job['owner']}"}
    comment = f"{start} and {ends.get(status, 'failed')}"
    site.change(sequence, state="F", exit_status=status, end_time=time.time(), comment=comment, nodes=[])


def _deleted(site: Site, sequence: int) -> bool:
    job = site.job(str(sequence))
    return job is None or job["delete"]


def _wait_for_turn(site: Site, sequence: int) -> bool:
    """Until the dependencies are met; a job whose dependencies cannot be met is deleted."""
    rules = [item.split(":") for item in (site.job(str(sequence)) or {}).get("depend", "").split(",") if item]
    while not _deleted(site, sequence):
        verdicts = [_met(site, kind, name) for kind, *names in rules for name in names if kind != "on"]
        if False in verdicts:
            site.change(sequence, state="F")  # without exit status and comment, as OpenPBS leaves it
            return False
        if all(verdicts):
            return True
        site.change(sequence, state="H")
        time.sleep(POLL_SECONDS)
    site.change(sequence, state="F")
    return False


def _met(site: Site, kind: str, name: str) -> bool | None:
    """Is one dependency met? None: not yet."""
    other = site.job(name)
    if other is None:
        return False
    if kind == "after":
        return True if other["state"] in "REF" else None
    if other["state"] != "F":
        return None
    ran = "start_time" in other
    good = other["exit_status"] == 0
    return ran and {"afterany": True, "afterok": good, "afternotok": not good}.get(kind, True)


def _wait_for_nodes(site: Site, sequence: int) -> bool:
    """Until as many nodes are free as the job has chunks (each chunk here is a whole node, as with place=scatter)."""
    while not _deleted(site, sequence):
        with site.locked():
            jobs = site.jobs()
            job = site.job(str(sequence)) or {}
            wanted = sum(count for count, _ in job["chunks"])
            busy = {node for other in jobs.values() if other["state"] in "RE" for node in other["nodes"]}
            free = [node for node in site.nodes if node not in busy]
            if wanted <= len(free):
                site.save(job | {"nodes": free[:wanted], "state": "R"})
                return True
            never = wanted > len(site.nodes)
            reason = "Can Never Run: Not enough total" if never else "Not Running: Not enough free"
            site.save(job | {"state": "Q", "comment": f"{reason} nodes available"})
        time.sleep(POLL_SECONDS)
    site.change(sequence, state="F")
    return False


def _paths(job: dict[str, Any]) -> tuple[Path, Path]:
    """Where standard output and error go in the end (qsub(1B), -o, -e and -j)."""
    found = []
    for letter, suffix in (("o", "OU"), ("e", "ER")):
        given = job["options"].get(letter, "").rpartition(":")[2]
        path = Path(job["directory"]) / (given or f"{job['name']}.{letter}{job['sequence']}")
        found.append(path / f"{job['id']}.{suffix}" if path.is_dir() else path)
    join = job["options"].get("j", "n")
    return (found[0], found[0]) if join == "oe" else (found[1], found[1]) if join == "eo" else (found[0], found[1])


def _spooled(site: Site, job: dict[str, Any]) -> tuple[Path, Path]:
    """Where they are written while the job runs: at once in place with -k d, else in the spool."""
    output, error = _paths(job)
    if "d" in job["options"].get("k", ""):
        return output, error
    spool = site.folder / "spool"
    return spool / f"{job['id']}.OU", spool / f"{job['id']}.{'OU' if output == error else 'ER'}"


def _open_output(site: Site, job: dict[str, Any]) -> tuple[BinaryIO, BinaryIO]:
    output, error = _spooled(site, job)
    opened = output.open("ab")
    return opened, opened if output == error else error.open("ab")


def _deliver(site: Site, job: dict[str, Any]) -> None:
    for spooled, path in zip(_spooled(site, job), _paths(job), strict=True):
        if spooled != path and spooled.exists() and path.parent.is_dir():
            path.write_bytes(spooled.read_bytes())


def _environment(site: Site, job: dict[str, Any]) -> dict[str, str]:
    """A login's environment and PBS's variables, nothing else of the shell that called qsub (qsub(1B), ENVIRONMENT)."""
    node_file = site.folder / "aux" / job["id"]
    per_node = [int(chunk.get("mpiprocs", 1)) for count, chunk in job["chunks"] for _ in range(count)]
    lines = [node for node, count in zip(job["nodes"], per_node, strict=True) for _ in range(count)]
    node_file.write_text("".join(f"{line}\n" for line in lines))
    ncpus = job["chunks"][0][1].get("ncpus", str(site.ncpus))
    origin = {f"PBS_O_{name}": value for name, value in job["submitted_from"].items()}
    return {
        "HOME": str(site.home),
        "PATH": f"{site.node_bin}:/usr/local/bin:/usr/bin:/bin",
        "SHELL": "/bin/bash",
        "USER": job["owner"],
        "LOGNAME": job["owner"],
        "TMPDIR": "/tmp",
        "ENVIRONMENT": "BATCH",
        **job["variables"],
        **origin,
        "PBS_O_LOGNAME": job["owner"],
        "PBS_O_HOST": "standin-login",
        "PBS_O_SYSTEM": "Linux",
        "PBS_O_QUEUE": job["queue"],
        "PBS_O_WORKDIR": job["directory"],
        "PBS_ACCOUNT": job["account"],
        "PBS_ENVIRONMENT": "PBS_BATCH",
        "PBS_JOBDIR": str(site.home),
        "PBS_JOBID": job["id"],
        "PBS_JOBNAME": job["name"],
        "PBS_NODEFILE": str(node_file),
        "PBS_QUEUE": job["queue"],
        "PBS_JOBCOOKIE": "0000000000000000",
        "NCPUS": ncpus,
        "OMP_NUM_THREADS": job["chunks"][0][1].get("ompthreads", ncpus),
    }


def _run(site: Site, job: dict[str, Any], output: BinaryIO, error: BinaryIO) -> int:
    """Run the script by a login shell on the first node, as its child; returns PBS's exit status."""
    shell = job["options"].get("S", "/bin/bash").split("@")[0]
    words = job["executable"] or [shell, "-l", "-c", '"$0"; exit $?', job["script"]]
    process = subprocess.Popen(
        [*enter_node(job["nodes"][0], site.folder / "hosts", own_network=True), *words],
        stdin=subprocess.DEVNULL, stdout=output, stderr=error, cwd=site.home, env=_environment(site, job),
        start_new_session=True,
    )  # fmt: skip
    limit = time.monotonic() + job["walltime_seconds"]
    status: int | None = None
    while process.poll() is None and status is None:
        time.sleep(POLL_SECONDS)
        if _deleted(site, job["sequence"]):
            status = TERMINATED
        elif time.monotonic() > limit:
            used = int(job["walltime_seconds"]) + 1
            error.write(f"=>> PBS: job killed: walltime {used} exceeded limit {job['walltime_seconds']}\n".encode())
            error.flush()
            status = WALLTIME_EXCEEDED
    if status is not None:
        site.change(job["sequence"], state="E")
        _end_session(process, site.kill_delay_seconds)
    code = process.wait()
    _signal_session(process.pid, signal.SIGKILL)
    return status if status is not None else code if code >= 0 else 256 - code


def _end_session(process: subprocess.Popen[bytes], kill_delay_seconds: float) -> None:
    """SIGTERM for all processes of the job, SIGKILL for those left after the delay (pbs_mom)."""
    _signal_session(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + kill_delay_seconds
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    _signal_session(process.pid, signal.SIGKILL)


def _signal_session(session: int, number: signal.Signals) -> None:
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[3]) == session:
                os.kill(int(path.parent.name), number)
        except (OSError, IndexError):
            continue
