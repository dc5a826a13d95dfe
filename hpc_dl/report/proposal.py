# SPDX-License-Identifier: Apache-2.0
"""The scaling evidence that calls for computing time ask for: 1 to N whole nodes, at least 100 steps at each."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from hpc_dl.report.caveats import FEWEST_STEPS
from hpc_dl.report.study import Study
from hpc_dl.scaling.cost import Recommendation, recommend
from hpc_dl.scaling.efficiency import Point, Size, points
from hpc_dl.scaling.statistics import Estimate

REPEATS = 3


@dataclass(frozen=True)
class Check:
    """One demand on the evidence."""

    demand: str
    met: bool
    found: str


@dataclass(frozen=True)
class Proposal:
    """Scaling over nodes, against the smallest number of nodes."""

    baseline: Size
    points: tuple[Point, ...]
    checks: tuple[Check, ...]
    recommendation: Recommendation
    request: Estimate | None
    """Node-hours for the epochs asked for, at the recommended number of nodes."""


def proposal(study: Study) -> Proposal | None:
    """The evidence over nodes; None where all runs have one number of nodes."""
    full: dict[int, Size] = {}
    for point in study.points:  # sorted by ranks: the last of a node count fills its nodes best
        full[point.size.nodes] = point.size
    chosen = [full[nodes] for nodes in sorted(full)]
    if len(chosen) < 2:
        return None
    found = points(chosen, chosen[0])
    best = recommend(found, study.question.target)
    return Proposal(chosen[0], found, _checks(chosen), best, _request(study, best))


def _checks(chosen: list[Size]) -> tuple[Check, ...]:
    nodes = [size.nodes for size in chosen]
    steps = min(measured.steps for size in chosen for measured in size.runs)
    repeats = min(len(size.runs) for size in chosen)
    widest = max(after / before for before, after in pairwise(nodes))
    one_density = len({size.world_size / size.nodes for size in chosen}) == 1
    found = [
        Check("starts at one node", nodes[0] == 1, f"smallest: {nodes[0]:,}"),
        Check("nodes at most double from size to size", widest <= 2, f"largest step: {widest:g} times"),
        Check("the same number of ranks on every node", one_density, "yes" if one_density else "no"),
        Check(f"at least {REPEATS} runs of every size", repeats >= REPEATS, f"fewest: {repeats}"),
    ]
    if steps:  # a table of measurements tells none
        enough = f"at least {FEWEST_STEPS} measured steps in every run"
        found.insert(3, Check(enough, steps >= FEWEST_STEPS, f"fewest: {steps:,}"))
    return tuple(found)


def _request(study: Study, best: Recommendation) -> Estimate | None:
    if not study.question.epochs or best.point is None:
        return None
    for point, cost in zip(study.points, study.costs, strict=True):
        if point.size is best.point.size and cost.node_hours_per_epoch:
            return cost.node_hours_per_epoch.scaled(study.question.epochs)
    return None
