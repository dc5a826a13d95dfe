# SPDX-License-Identifier: Apache-2.0
"""The checks of one process's place, in the order they are shown. No torch, no MPI: they run on a login node."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from hpc_dl.doctor import launch, places, software
from hpc_dl.doctor.finding import Finding
from hpc_dl.doctor.scene import Scene
from hpc_dl.doctor.variables import check_variables

CHECKS: tuple[Callable[[Scene], Finding | None], ...] = (*software.CHECKS, *launch.CHECKS, *places.CHECKS)


def examine(scene: Scene) -> Iterable[Finding]:
    """Findings one by one, as they are made; checks that do not concern this place are silent."""
    machine = scene.machine
    yield Finding("machine", "ok", f"{machine.name} ({machine.title or 'your own'}), host {scene.host}")
    for check in CHECKS:
        if (finding := check(scene)) is not None:
            yield finding
    yield from check_variables(scene)
