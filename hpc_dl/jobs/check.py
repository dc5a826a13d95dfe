# SPDX-License-Identifier: Apache-2.0
"""All checks of a request in one place: rules of the machine, folders, and what is to be trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hpc_dl.cluster.machine import Machine
from hpc_dl.errors import HpcDlError
from hpc_dl.jobs.request import Request
from hpc_dl.jobs.rules import Violation, violations
from hpc_dl.jobs.rules_place import import_violations, path_violations, place_violations


def check(request: Request, machine: Machine, warn: Callable[[str], None] | None = None) -> None:
    """Refuse a request that breaks a rule.

    Args:
        request: With its folders set.
        machine: Where it goes.
        warn: Where the request is forced: called with each broken rule, and nothing is refused.

    Raises:
        HpcDlError: Quotes every broken rule, its source and the nearest legal request.
    """
    broken = [
        *violations(request, machine),
        *place_violations(request, machine),
        *path_violations(request, machine),
        *import_violations(request.payload.imports, [request.work_folder]),
    ]
    _judge(broken, f"job on {machine.name}", warn)


def check_local(request: Request, machine: Machine, warn: Callable[[str], None] | None = None) -> None:
    """The same for a run without a scheduler: no rule of a queue holds."""
    _judge([*path_violations(request, machine)], f"run on {machine.name}", warn)


def _judge(broken: Sequence[Violation], asked: str, warn: Callable[[str], None] | None) -> None:
    if warn is not None:
        for violation in broken:
            warn(f"forced against a rule: {violation}")
    elif broken:
        remedy = "ask for what stands behind `legal`, or submit it as it is with --force"
        raise HpcDlError(asked, "\n  " + "\n  ".join(map(str, broken)), remedy)
