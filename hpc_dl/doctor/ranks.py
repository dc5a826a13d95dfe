# SPDX-License-Identifier: Apache-2.0
"""The checks of ranks among each other: every rank calls them in one order, rank 0 has the findings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from hpc_dl.doctor import place
from hpc_dl.doctor.collectives import check_allreduce, check_clocks, check_folder, check_speed, check_transport
from hpc_dl.doctor.equal import check_binding, check_environments, check_places
from hpc_dl.doctor.finding import Finding, exit_code
from hpc_dl.doctor.scene import Scene
from hpc_dl.doctor.watchdog import Watchdog
from hpc_dl.session import Session, start
from hpc_dl.settings import DeviceSettings, ExchangeSettings

Say = Callable[[Finding], None]
CHECKS: tuple[Callable[[Session, Scene], list[Finding]], ...] = (
    check_places,
    check_environments,
    check_binding,
    check_transport,
    check_allreduce,
    check_speed,
    check_clocks,
    check_folder,
)


def examine(scene: Scene, rank: int, timeout_seconds: float, say: Say) -> int:
    """Examine this rank's place, then all ranks together; the exit code is the same on all ranks.

    Rank 0 says its findings as they come, so that a start that fails finds them printed. A start that fails ends the
    job on all ranks with the reason; one that hangs is ended after `timeout_seconds`, with the stack of each rank.
    """
    speak: Say = say if rank == 0 else lambda finding: None
    watchdog = Watchdog(timeout_seconds, say)
    own = list(_said(place.examine(scene), speak))
    exchange = ExchangeSettings(engine=scene.engine, timeout_seconds=timeout_seconds)  # type: ignore[arg-type]
    device = DeviceSettings(name=scene.device)  # type: ignore[arg-type]
    with watchdog.over("the start of the ranks"):
        session = start(exchange, device, scene.environ)
    with session:
        with watchdog.over("the comparison of the ranks"):
            own += _said(_of_others(session, own), speak)
        for check in CHECKS:
            with watchdog.over(f"the check of {check.__name__.removeprefix('check_')}"):
                own += _said(check(session, scene), speak)
        code: int = session.engine.broadcast(exit_code(own))
    watchdog.close()
    return code


def _said(findings: Iterable[Finding], say: Say) -> Iterator[Finding]:
    for finding in findings:
        say(finding)
        yield finding


def _of_others(session: Session, own: list[Finding]) -> list[Finding]:
    """What other ranks found at their places and rank 0 did not; equal findings once, with their ranks."""
    bad = [(finding.name, finding.verdict, finding.found, finding.remedy) for finding in own if finding.verdict != "ok"]
    gathered = session.engine.gather(bad)
    if gathered is None or session.arrivals is None:
        return []
    ranks: dict[tuple[str, ...], list[int]] = {}
    for rank, found in enumerate(gathered):
        for row in found:
            ranks.setdefault(row, []).append(rank)
    findings = []
    for (name, verdict, found, remedy), where in ranks.items():
        if 0 not in where:
            first = session.arrivals[where[0]].place
            more = f" and {len(where) - 1} more" if len(where) > 1 else ""
            findings.append(Finding(name, verdict, f"rank {first.rank} on {first.host}{more}: {found}", remedy))  # type: ignore[arg-type]
    return findings
