# SPDX-License-Identifier: Apache-2.0
"""All checks of a request in one place: rules of the machine, folders, and what is to be trained."""

from __future__ import annotations

from collections.abc import Callable

from hpc_dl.cluster.machine import Machine
from hpc_dl.errors import HpcDlError
from hpc_dl.jobs.request import Request
from hpc_dl.jobs.rules import violations
from hpc_dl.jobs.rules_place import import_violations, place_violations
from hpc_dl.settings import Settings


def check(request: Request, machine: Machine, settings: Settings, warn: Callable[[str], None] | None = None) -> None:
    """Refuse a request that breaks a rule.

    Args:
        request: With its folders set.
        machine: Where it goes.
        settings: What it trains.
        warn: Where the request is forced: called with each broken rule, and nothing is refused.

    Raises:
        HpcDlError: Quotes every broken rule, its source and the nearest legal request.
    """
    task, data = settings.task, settings.data
    paths = {"task.model": task.model, "task.loss": task.loss, "data.source": data.source, "task.after": task.after}
    named = {setting: path for setting, path in paths.items() if ":" in path}
    broken = [
        *violations(request, machine),
        *place_violations(request, machine),
        *import_violations(named, [request.work_folder]),
    ]
    if warn is not None:
        for violation in broken:
            warn(f"forced against a rule: {violation}")
    elif broken:
        remedy = "ask for what stands behind `legal`, or submit it as it is with --force"
        raise HpcDlError(f"job on {machine.name}", "\n  " + "\n  ".join(map(str, broken)), remedy)
