# SPDX-License-Identifier: Apache-2.0
"""Slurm: directives, submit words, job ids and states. Pure text in and out; nothing is run here."""

from __future__ import annotations

import re

from hpc_dl.cluster.machine import Machine
from hpc_dl.errors import HpcDlError
from hpc_dl.jobs.request import Request, carried, carried_words, walltime
from hpc_dl.jobs.scheduler import JobShell, Scheduler, Status

NAME = r"[A-Za-z0-9_][A-Za-z0-9_.+-]*"
STATES = {
    "PENDING": "queued",
    "CONFIGURING": "queued",
    "REQUEUED": "queued",
    "REQUEUE_HOLD": "queued",
    "SPECIAL_EXIT": "queued",
    "SUSPENDED": "running",
    "RUNNING": "running",
    "COMPLETING": "running",
    "STOPPED": "running",
    "SIGNALING": "running",
    "STAGE_OUT": "running",
    "RESIZING": "running",
    "COMPLETED": "finished",
}
"""Job states of squeue(1), JOB STATE CODES; all others (FAILED, TIMEOUT, CANCELLED, ...) are an end in failure."""


class Slurm(Scheduler):
    """Slurm 22.05 and later."""

    name = "slurm"
    suffix = ".slurm"
    directive = "#SBATCH"
    shell = JobShell(
        enter="",
        train='train=("${@:-mnist_cnn}")',
        how="sbatch -A PROJECT -N 2 jobscripts/{file} mnist_cnn --training.epochs 5",
        label="$SLURM_JOB_NAME-$SLURM_JOB_ID",
        ranks_per_node="${SLURM_NTASKS_PER_NODE:-%d}",
        hosts='scontrol show hostnames "$SLURM_JOB_NODELIST"',
        nodes_granted='"$SLURM_JOB_NUM_NODES"',
        devices="${SLURM_GPUS_ON_NODE:-0}",
        port='"$SLURM_JOB_ID"',
        again='scontrol requeue "$SLURM_JOB_ID"',
    )

    def directives(self, request: Request, machine: Machine) -> list[str]:
        words = "letters, digits and _ . + -"
        lines = [f"--job-name={carried(request.name, 'job name', NAME, words)}"]
        lines += [f"--account={carried(request.account, 'account', NAME, words)}"] if request.account else []
        if request.queue:
            lines.append(f"{machine.job.queue_option}={carried(request.queue, 'queue', NAME, words)}")
        if request.constraint:
            pattern = rf"{NAME}([&|]{NAME})*"
            lines.append(f"--constraint={carried(request.constraint, 'constraint', pattern, 'features joined by &')}")
        lines += [f"--nodes={request.nodes}", f"--ntasks-per-node={request.ranks_per_node}"]
        lines += [f"--cpus-per-task={machine.ranks.threads}"] if machine.ranks.threads else []
        if machine.device != "cpu":
            lines.append(f"{machine.job.device_option}{min(machine.node.devices, self._devices(request, machine))}")
        lines += [f"--time={walltime(request.minutes)}", "--output=%x-%j.out"]
        lines += ["--requeue", "--open-mode=append"] if request.rerun else ["--no-requeue"]
        return [*lines, *carried_words((*machine.job.directives, *request.directives), "directive")]

    @staticmethod
    def _devices(request: Request, machine: Machine) -> int:
        """Whole nodes, but for a queue that shares them."""
        shared = any(queue.name == request.queue and queue.max_devices for queue in machine.queues)
        return request.ranks_per_node or 1 if shared else machine.node.devices

    def job_end(self, request: Request, machine: Machine) -> str:
        return "slurm_job_end"

    def submit_words(self, script: str, after: str = "") -> list[str]:
        return ["sbatch", "--parsable", *([f"--dependency=afterany:{after}"] if after else []), script]

    def read_job_id(self, output: str) -> str:
        """`--parsable` prints "1234" or "1234;cluster"."""
        lines = [line for line in output.split() if re.fullmatch(r"\d+(;\S+)?", line)]
        if not lines:
            raise HpcDlError("submission", f"sbatch printed no job id: {output.strip()!r}", "see what it says")
        return lines[-1].partition(";")[0]

    def status_words(self, job_id: str) -> list[list[str]]:
        return [
            ["scontrol", "show", "job", "-o", job_id],  # forgotten minutes after the end; then accounting knows
            ["sacct", "-n", "-X", "-P", "-o", "State,ExitCode", "-j", job_id],
        ]

    def read_status(self, output: str) -> Status | None:
        state = re.search(r"JobState=(\w+)", output) or re.match(r"\s*([A-Z_]+)[^|]*\|", output)
        if state is None:
            return None
        code = re.search(r"(?:ExitCode=|\|)(\d+):\d+", output)
        reason = re.search(r"Reason=(\S+)", output)
        detail = "" if reason is None or reason[1] == "None" else reason[1]
        return Status(STATES.get(state[1], "failed"), state[1], detail, int(code[1]) if code else None)

    def cancel_words(self, job_id: str) -> list[str]:
        return ["scancel", job_id]

    def refuses_folder(self, path: str) -> str:
        return "a control character" if any(ord(letter) < 32 for letter in path) else ""
