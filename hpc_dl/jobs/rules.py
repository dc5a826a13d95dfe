# SPDX-License-Identifier: Apache-2.0
"""Checks of a request against the machine's record, before anything is submitted.

A rule is a function from request and machine to violations; `RULES` is their list. Each violation quotes the rule, its
source and the nearest legal request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from hpc_dl.cluster.machine import Machine, Sourced
from hpc_dl.errors import nearest
from hpc_dl.jobs.request import Request, complete
from hpc_dl.jobs.rules_binding import binding_faults
from hpc_dl.jobs.rules_queue import queue_fault


class Violation(NamedTuple):
    """One rule a request breaks."""

    rule: str
    found: str
    legal: str
    """The nearest legal request, as flags of `hpc-dl job`."""
    source: str

    def __str__(self) -> str:
        return f"{self.found}: {self.rule}\n    source: {self.source}\n    legal:  {self.legal}"


Rule = Callable[[Request, Machine], Iterator[Violation]]


def violations(request: Request, machine: Machine) -> list[Violation]:
    """All rules the request breaks, with the machine's defaults filled in first."""
    filled = complete(request, machine)
    return [violation for rule in RULES for violation in rule(filled, machine)]


def _size(request: Request, machine: Machine) -> Iterator[Violation]:
    if request.nodes < 1:
        yield Violation("a job has at least 1 node", f"{request.nodes} nodes", "--nodes 1", "arithmetic")
    if request.minutes < 1:
        yield Violation("a job has at least 1 minute", f"{request.minutes} minutes", "--minutes 30", "arithmetic")
    if 0 < machine.node.count < request.nodes:
        rule = f"{machine.name} has {machine.node.count} nodes"
        yield Violation(rule, f"{request.nodes} nodes", f"--nodes {machine.node.count}", _source(machine.node))


def _queue(request: Request, machine: Machine) -> Iterator[Violation]:
    sensible = 0 < request.nodes <= (machine.node.count or request.nodes) and request.minutes > 0
    if sensible and (fault := queue_fault(request, machine.queues)):
        yield Violation(*fault)
    for queue in machine.queues:
        if queue.name == request.queue and queue.rerun_advised and not request.rerun:
            rule = f"jobs in {queue.name} may be stopped ({queue.note}): they must be able to start again"
            yield Violation(rule, f"queue {queue.name} without --rerun", "--rerun", _source(queue))
            break


def _chain(request: Request, machine: Machine) -> Iterator[Violation]:
    if request.chain < 1:
        yield Violation("a chain has at least 1 job", f"a chain of {request.chain}", "--chain 1", "arithmetic")
    for queue in machine.queues:
        if queue.name == request.queue and 0 < queue.max_jobs < request.chain:
            rule = f"{queue.name} takes {queue.max_jobs} jobs of a user"
            yield Violation(rule, f"a chain of {request.chain}", f"--chain {queue.max_jobs}", _source(queue))
            break


def _account(request: Request, machine: Machine) -> Iterator[Violation]:
    if machine.job.account_required and not request.account:
        yield Violation("a job names its project", "no account", "--account PROJECT", _source(machine.job))


def _constraint(request: Request, machine: Machine) -> Iterator[Violation]:
    allowed = machine.job.constraints
    if allowed and request.constraint not in allowed:
        rule = f"the nodes with devices are {', '.join(allowed)}"
        yield Violation(rule, f"constraint {request.constraint}", f"--constraint {allowed[0]}", _source(machine.job))


def _file_systems(request: Request, machine: Machine) -> Iterator[Violation]:
    if not machine.job.file_systems_required:
        return
    known = [system.name for system in machine.file_systems]
    default = f"--filesystems {':'.join(machine.job.file_systems)}"
    if not any(request.file_systems):
        yield Violation("a job names its file systems", "no file systems", default, _source(machine.job))
    for name in filter(None, request.file_systems):
        if name not in known:
            rule = f"file systems: {nearest(name, known)}"
            yield Violation(rule, f"file system {name}", default, _source(machine.job))


def _ranks(request: Request, machine: Machine) -> Iterator[Violation]:
    ranks, devices = request.ranks_per_node or 0, machine.node.devices
    if ranks < 1:
        yield Violation("a node has at least 1 rank", f"{ranks} ranks per node", "--ranks-per-node 1", "arithmetic")
    elif 0 < devices < ranks:
        rule = f"a node of {machine.name} has {devices} devices, and a rank needs one"
        yield Violation(rule, f"{ranks} ranks per node", f"--ranks-per-node {devices}", _source(machine.node))


def _launcher(request: Request, machine: Machine) -> Iterator[Violation]:
    if machine.launcher == "torchrun" and machine.scheduler == "pbs" and request.nodes > 1:
        rule = "torchrun runs once on each node, and PBS starts the script on the first only"
        legal = '--nodes 1, or launcher = "hydra" in the machine\'s file'
        yield Violation(rule, f"{request.nodes} nodes with torchrun", legal, "docs/machines/your-cluster.md")


def _binding(request: Request, machine: Machine) -> Iterator[Violation]:
    ranks = min(request.ranks_per_node or 1, machine.node.devices or machine.ranks_per_node)  # more: another rule's
    for rule, found, source in binding_faults(request.cpu_bind, ranks, machine):
        yield Violation(rule, found, f"--cpu-bind {machine.ranks.cpu_bind}", _source(source))


def _stack(request: Request, machine: Machine) -> Iterator[Violation]:
    stack = machine.stack(request.stack)
    if stack.removed:
        legal = f"--stack {machine.stack().name}"
        yield Violation(
            f"the stack {stack.name} is gone: {stack.removed}", f"stack {stack.name}", legal, _source(stack)
        )
    if stack.own_environment and not request.python_environment:
        rule = f"the stack {stack.name} needs {stack.note}"
        yield Violation(rule, "no --environment", "--environment FOLDER", _source(stack))
    engine = request.payload.engine
    if engine in ("horovod", "torch") and engine not in stack.engines:
        rule = f"the stack {stack.name} has no engine {engine}: {stack.note}"
        found = f"--exchange.engine {engine}"
        yield Violation(rule, found, f"--exchange.engine {stack.engines[0]}", _source(stack))


def _directives(request: Request, machine: Machine) -> Iterator[Violation]:
    refused = {row.option: row for row in machine.job.refused}
    for directive in request.directives:
        option = directive.replace("=", " ").split()[0] if directive.strip() else ""
        row = refused.get(option) or (refused.get(option[:2]) if not option.startswith("--") else None)
        if row is not None:
            yield Violation(f"{row.option}: {row.why}", f"directive {directive}", row.use, _source(machine.job))
        elif option in OWN_FLAGS:
            rule = f"{option} is written by hpc-dl from {OWN_FLAGS[option]}"
            yield Violation(rule, f"directive {directive}", OWN_FLAGS[option], "hpc-dl job --help")


RULES: tuple[Rule, ...] = (
    _size,
    _queue,
    _chain,
    _account,
    _constraint,
    _file_systems,
    _ranks,
    _launcher,
    _binding,
    _stack,
    _directives,
)
OWN_FLAGS = {
    "--nodes": "--nodes",
    "-N": "--nodes or --name",
    "--time": "--minutes",
    "-t": "--minutes",
    "--qos": "--queue",
    "-q": "--queue",
    "--account": "--account",
    "-A": "--account",
    "--constraint": "--constraint",
    "-C": "--constraint",
    "--ntasks-per-node": "--ranks-per-node",
    "--job-name": "--name",
    "-J": "--name",
    "-r": "--rerun",
    "--requeue": "--rerun",
}
"""Options of sbatch and qsub that would contradict the script."""


def _source(facts: Sourced) -> str:
    return f"{facts.source} ({facts.date})" if facts.date else facts.source
