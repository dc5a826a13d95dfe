# SPDX-License-Identifier: Apache-2.0
"""Do metrics depend on the number of ranks?"""

from __future__ import annotations

from collections.abc import Iterator

from hpc_dl.prove.differences import Largest
from hpc_dl.prove.row import Row
from hpc_dl.prove.trials import Trials

SAME_METRIC = 1e-9
"""Relative, of metrics above 1, else absolute: the sums of many samples."""


def metrics(trials: Trials) -> Iterator[Row]:
    """One row for each number of ranks: the last checkpoint of one process is evaluated on them."""
    one = trials.one()
    for ranks in trials.ranks:
        what = f"metrics are the same on {ranks} ranks as on one process"
        if trials.refused_metrics:
            yield Row(what, "not shown", f"With them the training fails: {trials.refused_metrics}")
            continue
        again = trials.resumed(one, trials.small.steps, ranks, trials.engines[0])
        if again.failure:
            yield Row(what, "not shown", again.failure)
            continue
        expected, found = one.log.evaluations[-1], again.log.evaluations[-1]
        largest = Largest()
        for name, value in expected.metrics.items():
            apart = abs(found.metrics[name] - value) / max(1.0, abs(value))
            largest |= Largest(apart, name)
        names = ", ".join(expected.metrics) or "none"
        if largest.value <= SAME_METRIC and found.samples == expected.samples:
            why = f"{names}; one process's model, evaluated on {found.samples} samples"
            yield Row(what, "shown", why, largest.value, SAME_METRIC)
        elif one.witness["drawn_in_evaluation"]:
            why = f"{largest.where}: the evaluation draws random numbers, which are others on other ranks"
            yield Row(what, "cannot be shown", why, largest.value, SAME_METRIC)
        else:
            why = (
                f"{largest.where} depends on it: let it return (mean, what it is a mean over), or sums (docs/train.md)"
            )
            yield Row(what, "not shown", why, largest.value, SAME_METRIC)
