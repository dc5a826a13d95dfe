# SPDX-License-Identifier: Apache-2.0
"""PBS Pro and OpenPBS: directives, submit words, job ids and states. Pure text in and out; nothing is run here."""

from __future__ import annotations

import re

from hpc_dl.cluster.machine import Machine
from hpc_dl.errors import HpcDlError
from hpc_dl.jobs.request import Request, carried, carried_words, walltime
from hpc_dl.jobs.scheduler import JobShell, Scheduler, Status

NAME = r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,229}"
"""Of what qsub(1B) allows as job name (236 printable characters), the part that no parser acts on."""
STATES = {**dict.fromkeys("QHWTM", "queued"), **dict.fromkeys("RESUB", "running")}
"""Job states of qstat(1B): E exiting, S suspended, U suspended for the workstation's owner, B an array that began."""


class Pbs(Scheduler):
    """PBS Pro and OpenPBS 2020 and later."""

    name = "pbs"
    suffix = ".pbs"
    directive = "#PBS"
    shell = JobShell(
        enter='cd "$PBS_O_WORKDIR" || exit',
        train='read -ra train <<< "${HPC_DL_TRAIN:-mnist_cnn}"',
        how='qsub -A PROJECT -v HPC_DL_TRAIN="mnist_cnn --training.epochs 5" jobscripts/{file}',
        label="$PBS_JOBNAME-${PBS_JOBID%%.*}",
        ranks_per_node="${HPC_DL_RANKS_PER_NODE:-%d}",
        hosts="pbs_hosts",
        nodes_granted="",
        devices="",
        port='"${PBS_JOBID%%.*}"',
        again="",
    )

    def directives(self, request: Request, machine: Machine) -> list[str]:
        """No comment may stand between these lines, nor behind one: PBS could read it as a directive."""
        words = "letters, digits and _ . + -"
        chunk = carried(
            f":{machine.job.chunk}" if machine.job.chunk else "", "chunk", r"(:\w+=[\w.-]+)*", "name=value:..."
        )
        lines = [f"-N {carried(request.name, 'job name', NAME, words)}"]
        lines += [f"-A {carried(request.account, 'account', NAME, words)}"] if request.account else []
        lines += [f"-q {carried(request.queue, 'queue', f'{NAME}(@{NAME})?', words)}"] if request.queue else []
        lines += [f"-l select={request.nodes}{chunk}", "-l place=scatter", f"-l walltime={walltime(request.minutes)}"]
        if request.file_systems:
            systems = ":".join(carried(system, "file system", NAME, words) for system in request.file_systems)
            lines.append(f"-l filesystems={systems}")
        lines += ["-k doe", "-j oe", f"-r {'y' if request.rerun else 'n'}"]
        lines += carried_words((*machine.job.directives, *request.directives), "directive")
        return _last_counts(lines)

    def job_end(self, request: Request, machine: Machine) -> str:
        """Aurora's compute nodes have no qstat on PATH (ezpz, pbs.py, 2026). What was asked for stands in, unless
        options of qsub may still override it."""
        limits = re.findall(r"\bwalltime=([0-9:]+)", "\n".join(self.directives(request, machine)))
        return f"pbs_job_end {limits[-1]}" if request.payload.words and limits else "pbs_job_end"

    def submit_words(self, script: str, after: str = "") -> list[str]:
        return ["qsub", *(["-W", f"depend=afterany:{after}"] if after else []), script]

    def read_job_id(self, output: str) -> str:
        """qsub prints "1234.server"; arrays are "1234[].server"."""
        lines = [line for line in output.split() if re.fullmatch(r"\d+(\[\])?(\.[\w.-]+)?", line)]
        if not lines:
            raise HpcDlError("submission", f"qsub printed no job id: {output.strip()!r}", "see what it says")
        return lines[-1]

    def status_words(self, job_id: str) -> list[list[str]]:
        return [["qstat", "-xf", job_id], ["qstat", "-f", job_id]]  # -x: finished jobs too, where a history is kept

    def read_status(self, output: str) -> Status | None:
        found = re.findall(r"^ +([\w.]+) = (.*(?:\n\t.*)*)", output, re.MULTILINE)
        values = dict(reversed(found))  # the first counts: a variable of the job may hold lines that look alike
        letter = values.get("job_state", "")
        if not letter:
            return None
        code = int(values["Exit_status"]) if "Exit_status" in values else None
        comment = re.sub(r"\n\t", "", values.get("comment", ""))
        state = STATES.get(letter, "finished" if code == 0 else "failed")
        return Status(state, letter, comment or _meaning(code), code)

    def cancel_words(self, job_id: str) -> list[str]:
        return ["qdel", job_id]

    def refuses_folder(self, path: str) -> str:
        """qsub hands the folder on in a list of NAME=value pairs and as host:path."""
        odd = [letter for letter in path if letter in " ,:'\"\\" or ord(letter) < 32 or ord(letter) == 127]
        return f"the character {odd[0]!r}" if odd else ""


def _last_counts(lines: list[str]) -> list[str]:
    """Without the -l lines a later one replaces: qsub takes the first of a resource, the last of its other options.

    Seen on OpenPBS 23.06.06, for directives; on the command line the last counts for resources too.
    """
    kept: list[str] = []
    named: set[str] = set()
    for line in reversed(lines):
        resources = {item.partition("=")[0] for item in line[2:].strip().split(",")} if line.startswith("-l") else set()
        if not resources or resources - named:
            kept.append(line)
        named |= resources
    return kept[::-1]


def _meaning(code: int | None) -> str:
    """What a job's exit status tells (openpbs src/include/job.h; 256 + signal: mom_start.c)."""
    if code is None or 0 <= code < 256:
        return ""
    known = {-3: "could not be started, retry", -27: "over its memory", -29: "over its wall time"}
    return known.get(code, f"ended by signal {code - 256}" if code > 256 else "ended by PBS")
