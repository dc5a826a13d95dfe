# SPDX-License-Identifier: Apache-2.0
"""What a report says of sizes not yet measured: the door through which the report asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hpc_dl.cluster import machines
from hpc_dl.errors import HpcDlError
from hpc_dl.predict import machine as machine_records
from hpc_dl.predict import posterior
from hpc_dl.predict.forecast import Question, forecast
from hpc_dl.predict.observed import observe
from hpc_dl.runlog.records import Run
from hpc_dl.scaling.statistics import Estimate

FACTORS = (1, 2, 4, 8)
"""Predicted sizes over the largest measured one; the first shows how well the prediction meets the measurement."""
DRAWS = 50
"""Of the bootstrap: a quarter of what `hpc-dl predict` draws, so that the report of a thousand runs takes seconds."""
MOST_SIZES, MOST_REPEATS = 6, 10
"""Of the runs a prediction rests on, beside the smallest size: more would take time and move nothing."""
PERCENT = 90
"""Of the intervals: those of the prediction room."""


@dataclass(frozen=True)
class Ahead:
    """One predicted size."""

    world_size: int
    nodes: int
    step_seconds: Estimate
    efficiency: Estimate
    """Against the smallest measured size."""


@dataclass(frozen=True)
class Outlook:
    """Predicted sizes, or why there are none."""

    points: tuple[Ahead, ...] = ()
    basis: str = ""
    """What the network is taken from."""
    refusal: str = ""


def look_ahead(runs: Sequence[Run], machine: str = "") -> Outlook:
    """Predict two, four and eight times the largest measured size, where the runs (and a machine record) carry it."""
    largest = max((run.header for run in runs), key=lambda header: header.world_size)
    if largest.nodes == 1 and not machine:
        return Outlook(refusal="no run left its node, so nothing is known of the network; name a machine (--machine)")
    prior = machine_records.from_machine(machines.load(machine)) if machine else posterior.nothing_known()
    prior = replace(prior, negotiated=largest.engine == "horovod")
    most = prior.most_nodes * largest.ranks_per_node[1] or FACTORS[-1] * largest.world_size
    ranks = [factor * largest.world_size for factor in FACTORS if factor * largest.world_size <= most]
    try:
        found = forecast(Question(ranks, largest.ranks_per_node[1], prior, observe(_enough(runs))), draws=DRAWS)
    except HpcDlError as error:
        return Outlook(refusal=f"{error.found}; {error.remedy}")
    points = tuple(
        Ahead(
            world_size=point.step.ranks,
            nodes=point.step.nodes,
            step_seconds=Estimate(point.seconds.value, point.seconds.low, point.seconds.high),
            efficiency=Estimate(point.efficiency.value, point.efficiency.low, point.efficiency.high),
        )
        for point in found.points
    )
    return Outlook(points, found.basis)


def _enough(runs: Sequence[Run]) -> list[Run]:
    """The smallest size, which efficiency refers to, and the largest ones, some repeats of each."""
    groups: dict[int, list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.header.world_size):
        groups.setdefault(run.header.world_size, []).append(run)
    smallest, *others = groups.values()
    return [run for group in (smallest, *others[-MOST_SIZES:]) for run in group[:MOST_REPEATS]]
