# SPDX-License-Identifier: Apache-2.0
"""A job script: directives, checks, environment and launch line joined to text. Touches nothing."""

from __future__ import annotations

from hpc_dl.cluster.machine import Machine, Stack
from hpc_dl.cluster.variables import EXPECTED_WORLD_SIZE, JOB_END, MACHINE, RUN_FOLDER
from hpc_dl.jobs.launch_command import Launch, launch_words
from hpc_dl.jobs.request import Request, complete
from hpc_dl.jobs.scheduler import Scheduler
from hpc_dl.jobs.schedulers import scheduler_of
from hpc_dl.jobs.words import Variable, Word, array, command, quote

VENV = "HPC_DL_VENV"
HOME = "HPC_DL_HOME"


def render(request: Request, machine: Machine) -> str:
    """The script of a request, ready to be submitted.

    Raises:
        HpcDlError: The machine has no scheduler, or a directive cannot carry a value.
    """
    request = complete(request, machine)
    scheduler = scheduler_of(machine)
    directives = [f"{scheduler.directive} {line}" for line in scheduler.directives(request, machine)]
    blocks = [
        ["#!/bin/bash -l", *directives],
        _usage(request, machine, scheduler),
        ["# What to train, and where its files go", *_place(request, scheduler)],
        ["# Software", *_software(request, machine)],
        ["# Nodes and ranks", *_nodes(request, machine, scheduler)],
        ["# Environment of all ranks", *_environment(request, machine, scheduler)],
        ["# Train, then report", *_launch(request, machine, scheduler)],
    ]
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def file_name(machine: Machine) -> str:
    """Of the script that leaves account and training open."""
    return machine.name + scheduler_of(machine).suffix


def _usage(request: Request, machine: Machine, scheduler: Scheduler) -> list[str]:
    title = f"# Trains with hpc_dl on {machine.title or machine.name}: {request.ranks_per_node} ranks on each node."
    if request.payload.words:
        return [f"{title} Written by `hpc-dl job`."]
    submit = scheduler.submit_words("")[0]
    return [
        f"{title} From the project's folder:",
        f"#   {scheduler.shell.how.format(file=file_name(machine))}",
        f"# Options of {submit}, in front of the script, override the lines above. `hpc-dl job submit --machine",
        f"# {machine.name}` knows the queues' rules and checks a request before. Both: docs/jobs.md.",
    ]


def _place(request: Request, scheduler: Scheduler) -> list[str]:
    shell, payload = scheduler.shell, request.payload
    enter = [f"cd {quote(request.work_folder)} || exit"] if request.work_folder else [shell.enter] * bool(shell.enter)
    train = array("train", payload.words) if payload.words else shell.train
    if request.run_folder:
        launch, run_folder = quote(f"{request.run_folder}/launch"), quote(request.run_folder)
    else:
        launch, run_folder = f"${{{HOME}:-$PWD}}/launch", f"${{{RUN_FOLDER}:-runs/{shell.label}}}"
    missing = (
        f"submit from the project's folder, or export {HOME}" if not request.run_folder else "the run's folder is gone"
    )
    return [
        *enter,
        train,
        f"export {RUN_FOLDER}={run_folder}",
        f"launch={launch}  # functions and settings of the job",
        f'source "$launch/job.sh" || {{ echo "hpc_dl job: {missing}" >&2; exit 1; }}',
    ]


def _software(request: Request, machine: Machine) -> list[str]:
    stack: Stack = machine.stack(request.stack)
    lines = [f"module use {quote(path)}" for path in stack.module_paths]
    lines += [f"load_modules {' '.join(map(quote, stack.modules))}"] if stack.modules else []
    lines += [f'{stack.activate} || stop "{stack.activate} failed"'] if stack.activate else []
    environment = quote(request.python_environment) if request.python_environment else f'"${{{VENV}:-}}"'
    return [*lines, f"activate_environment {environment}", command(request.payload.check)]


def _nodes(request: Request, machine: Machine, scheduler: Scheduler) -> list[str]:
    shell = scheduler.shell
    per_node = shell.ranks_per_node.replace("%d", str(request.ranks_per_node))
    lines = [
        f"mapfile -t hosts < <({shell.hosts})",
        f'check_nodes {shell.nodes_granted or repr("")} "${{hosts[@]}}"',
        "nodes=${#hosts[@]}",
        f"ranks_per_node={per_node}",
        "ranks=$((nodes * ranks_per_node))",
    ]
    node = machine.node
    pattern = quote("|".join(machine.identity.host_names[:1]))
    if shell.devices and machine.device != "cpu":
        lines.append(f'check_devices "$ranks_per_node" "{shell.devices}" {pattern}')
    elif node.device_files:
        lines.append(f'check_devices {node.device_file_count} "$(count_files {quote(node.device_files)})" {pattern}')
    return lines


def _environment(request: Request, machine: Machine, scheduler: Scheduler) -> list[str]:
    bind = machine.cpu_bind(request.cpu_bind)
    lines = [f'source "$launch/{machine.name}.sh"'] if machine.environment else []
    if bind is not None and bind.worker_affinity:
        lines.append(f"default CCL_WORKER_AFFINITY {bind.worker_affinity}  # the cores our ranks leave")
    lines += ['check_nccl_plugin "$nodes"'] if machine.node.nccl_plugin else []
    lines += ["match_mpi_to_slurm"] if machine.launcher == "srun" else []
    if bind is not None and machine.launcher != "pals":
        lines.append(f"export HPC_DL_CPU_BIND={quote(':'.join(bind.cores))}")
    if request.one_device and machine.launcher != "srun":
        lines.append(f"export HPC_DL_ONE_DEVICE={':'.join(map(str, _device_order(request, machine)))}")
    return [
        *lines,
        f"export {MACHINE}={quote(request.machine or machine.name)} {EXPECTED_WORLD_SIZE}=$ranks",
        f"MASTER_ADDR=$(address_of_this_node {quote(machine.address.suffix)})",
        f"MASTER_PORT=$(port_of_job {scheduler.shell.port})",
        "export MASTER_ADDR MASTER_PORT",
        f"{JOB_END}=$({scheduler.job_end(request, machine)})",
        f"export {JOB_END}",
        *(['rendezvous="$MASTER_ADDR:$MASTER_PORT"'] if machine.launcher == "torchrun" else []),
    ]


def _launch(request: Request, machine: Machine, scheduler: Scheduler) -> list[str]:
    bind = machine.cpu_bind(request.cpu_bind)
    payload = request.payload
    program: list[Word] = ["bash", Variable("launch/rank.sh"), *payload.program, Variable("train[@]")]
    program += payload.resume if request.resumes else ()
    launch = Launch(
        program=tuple(program),
        nodes=Variable("nodes"),
        ranks=Variable("ranks"),
        ranks_per_node=Variable("ranks_per_node"),
        threads=machine.ranks.threads,
        cpu_bind="none" if bind is not None else request.cpu_bind,
        cores=bind.cores if bind is not None else (),
        device_order=_device_order(request, machine) if request.one_device else (),
        exported=("PATH", RUN_FOLDER, MACHINE, EXPECTED_WORLD_SIZE, "MASTER_ADDR", "MASTER_PORT", JOB_END),
    )
    words = launch_words(machine.launcher, machine.scheduler, launch)
    again = f" {scheduler.shell.again}" if request.rerun and scheduler.shell.again else ""
    return [
        *(["leave_finished"] if request.chain > 1 else []),
        command(words, program=len(launch.program)),
        f"end_training $?{again}",
    ]


def _device_order(request: Request, machine: Machine) -> tuple[int, ...]:
    return tuple(machine.device_index(rank) for rank in range(request.ranks_per_node or 1))
