# SPDX-License-Identifier: Apache-2.0
"""How far off is the model on systems it has never seen? k folds over systems, so that no system tests itself.

For each fold: constants are fitted to the systems of the other folds; the factors by which losses of left-out systems
miss, found by the same procedure within those other folds, give the interval. No row of a tested system takes part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.published import population
from benchmarks.published.cases import Case
from benchmarks.published.misses import Misses, gather, loss
from hpc_dl.errors import HpcDlError


@dataclass(frozen=True)
class Judged:
    """One case, predicted without its system."""

    case: Case
    predicted: float
    low: float
    high: float

    @property
    def error(self) -> float:
        """Absolute error of efficiency: 0.05 is five percentage points."""
        return abs(self.predicted - self.case.efficiency)

    @property
    def covered(self) -> bool:
        return self.low <= self.case.efficiency <= self.high


@dataclass(frozen=True)
class Summary:
    """Errors and coverage of some cases."""

    cases: int
    systems: int
    median_error: float
    error_90: float
    """90th percentile of the absolute error."""
    coverage: float
    """Share of cases inside their 90 % interval."""
    constant_error: float
    """Median error of the median efficiency of the other systems, a model that knows nothing: what ours must beat."""
    constant_error_90: float


def judge(cases: Sequence[Case], tested: Sequence[Case] | None = None, folds: int = 10) -> list[Judged]:
    """Predict every tested case from the cases of other systems.

    Args:
        cases: All that may calibrate.
        tested: What is predicted, `cases` themselves by default.
        folds: Groups of whole systems that are left out together.
    """
    tested = cases if tested is None else tested
    groups = split([case.hardware.key for case in tested], folds)
    judged = [
        one for group in groups for one in _predict([c for c in tested if c.hardware.key in group], cases, group, folds)
    ]
    order = {id(case): place for place, case in enumerate(tested)}
    return sorted(judged, key=lambda one: order[id(one.case)])


def _predict(tested: list[Case], cases: Sequence[Case], group: set[str], folds: int) -> list[Judged]:
    others = tuple(case for case in cases if case.hardware.key not in group)
    if len({case.hardware.key for case in others}) < 3:
        raise HpcDlError(
            "validation", "fewer than three systems to calibrate with", "give a table of results from more systems"
        )
    predicted = population.efficiency(np.array(population.fit(others)), population.Features.of(tested))
    low, high = left_out(others, folds).interval(predicted)
    rows = zip(tested, predicted, low, high, strict=True)
    return [Judged(case, float(middle), float(below), float(above)) for case, middle, below, above in rows]


def split(keys: Sequence[str], folds: int) -> list[set[str]]:
    """Whole systems dealt into folds of about equal numbers of cases, the same way every time."""
    sizes = {key: list(keys).count(key) for key in keys}
    groups: list[set[str]] = [set() for _ in range(max(2, min(folds, len(sizes))))]
    for key in sorted(sizes, key=lambda key: (-sizes[key], key)):
        min(groups, key=lambda group: sum(sizes[k] for k in group)).add(key)
    return [group for group in groups if group]


def left_out(cases: tuple[Case, ...], folds: int = 10) -> Misses:
    """Misses on systems that did not calibrate, by the same folds within the calibrating cases."""
    factors: dict[str, list[float]] = {}
    for group in split([case.hardware.key for case in cases], folds):
        inner = tuple(case for case in cases if case.hardware.key not in group)
        outside = [case for case in cases if case.hardware.key in group]
        predicted = population.efficiency(np.array(population.fit(inner)), population.Features.of(outside))
        for case, value in zip(outside, predicted, strict=True):
            factors.setdefault(case.hardware.key, []).append(float(loss(case.efficiency) / loss(float(value))))
    return gather(factors)


def summarise(judged: Sequence[Judged], everything: Sequence[Judged] | None = None) -> Summary:
    """Errors and coverage; `everything` holds the cases from which the know-nothing model takes its medians."""
    pool = judged if everything is None else everything
    constant = [abs(one.case.efficiency - _median_of_others(one, pool)) for one in judged]
    errors = [one.error for one in judged]
    return Summary(
        cases=len(judged),
        systems=len({one.case.hardware.key for one in judged}),
        median_error=float(np.median(errors)),
        error_90=float(np.quantile(errors, 0.9)),
        coverage=float(np.mean([one.covered for one in judged])),
        constant_error=float(np.median(constant)),
        constant_error_90=float(np.quantile(constant, 0.9)),
    )


def _median_of_others(one: Judged, pool: Sequence[Judged]) -> float:
    others = [other.case.efficiency for other in pool if other.case.hardware.key != one.case.hardware.key]
    return float(np.median(others)) if others else 1.0


def summaries(judged: Sequence[Judged]) -> dict[str, Summary]:
    """One summary for each group of rows, one by reach (within a node, across nodes), and one for all."""
    groups = {
        name: [one for one in judged if one.case.group == name] for name in sorted({j.case.group for j in judged})
    }
    groups["within a node"] = [one for one in judged if one.case.target.nodes == 1]
    groups["across nodes"] = [one for one in judged if one.case.target.nodes > 1]
    groups["nothing assumed"] = [one for one in judged if not one.case.assumed]
    groups["all"] = list(judged)
    return {name: summarise(group, judged) for name, group in groups.items() if group}


def worst(judged: Sequence[Judged], count: int = 10) -> list[tuple[Judged, str]]:
    """The cases predicted worst, at most one of each series, each with what can be said of the reason."""
    chosen: dict[str, Judged] = {}
    for one in sorted(judged, key=lambda one: -one.error):
        chosen.setdefault(one.case.series, one)
    return [(one, reason(one, judged)) for one in list(chosen.values())[:count]]


def reason(one: Judged, judged: Sequence[Judged]) -> str:
    """What the data say about a miss: facts of the row and its neighbours, no guess beyond them."""
    case = one.case
    siblings = [other.case for other in judged if other.case.series == case.series and other is not one]
    signs = []
    near = [c.efficiency for c in siblings if 0.3 < c.target.ranks / case.target.ranks < 3]
    if len(near) >= 2 and (case.efficiency < min(near) - 0.1 or case.efficiency > max(near) + 0.1):
        signs.append("outlier against both neighbours of its own series")
    if case.efficiency > 1.05:
        signs.append("published efficiency above 1: a poor baseline or caching")
    if case.assumed:
        signs.append(f"not stated and assumed: {', '.join(case.assumed)}")
    if case.target.nodes > 1 and case.efficiency < one.predicted:
        moved = 2 * case.wire_bytes * (case.target.nodes - 1) / case.target.nodes
        lost = case.step_seconds * case.target.accumulation * (1 / case.efficiency - 1)
        signs.append(f"lost {lost * 1e3:.0f} ms a step, as if the network moved {moved / lost / 1e9:.2g} GB/s a node")
    if case.target.nodes == 1 and case.efficiency < one.predicted:
        signs.append("loss within one node: input or host, which the row does not separate from communication")
    if case.efficiency > one.predicted and case.efficiency <= 1.05:
        signs.append("better than systems of its kind usually do")
    return "; ".join(signs) or "no sign in the row"
