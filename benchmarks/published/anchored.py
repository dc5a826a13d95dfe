# SPDX-License-Identifier: Apache-2.0
"""The second question to published results: how far off is the next size, once a series' own smaller sizes are known?

The largest size of every series is predicted; the loss the constants foresee is multiplied by the factor by which they
missed at the next smaller size across nodes. Constants and interval come from other systems only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.published import population
from benchmarks.published.cases import Case
from benchmarks.published.misses import Misses, from_loss, gather, loss
from benchmarks.published.validate import Judged, split


def judge_anchored(cases: Sequence[Case], tested: Sequence[Case] | None = None, folds: int = 10) -> list[Judged]:
    """Predict the largest size of each series from its next smaller one.

    Args:
        cases: All that may calibrate.
        tested: Whose series are predicted, `cases` by default; series with one size
            across nodes are left out.
        folds: Groups of whole systems that are left out together.
    """
    pairs = _pairs(cases if tested is None else tested)
    judged = []
    for group in split([last.hardware.key for _, last in pairs], folds):
        others = tuple(case for case in cases if case.hardware.key not in group)
        misses = next_size(others)
        constants = np.array(population.fit(others))
        for known, last in (pair for pair in pairs if pair[1].hardware.key in group):
            predicted = _predict(constants, known, last)
            low, high = misses.interval(np.array([predicted]))
            judged.append(Judged(last, predicted, float(low[0]), float(high[0])))
    return judged


def next_size(cases: tuple[Case, ...]) -> Misses:
    """Misses at the next size, once the smaller one is known."""
    constants = np.array(population.fit(cases))
    factors: dict[str, list[float]] = {}
    for known, last in _pairs(cases):
        miss = float(loss(last.efficiency) / loss(_predict(constants, known, last)))
        factors.setdefault(last.hardware.key, []).append(miss)
    return gather(factors)


def _pairs(cases: Sequence[Case]) -> list[tuple[Case, Case]]:
    """Of every series its two largest sizes across nodes."""
    series: dict[str, list[Case]] = {}
    for case in cases:
        if case.target.nodes > 1:
            series.setdefault(case.series, []).append(case)
    ordered = [sorted(members, key=lambda case: case.target.ranks) for members in series.values()]
    return [(members[-2], members[-1]) for members in ordered if len(members) >= 2]


def _predict(constants: NDArray[np.float64], known: Case, last: Case) -> float:
    foreseen = loss(population.efficiency(constants, population.Features.of([known, last])))
    return float(from_loss(foreseen[1] * loss(known.efficiency) / foreseen[0]))
