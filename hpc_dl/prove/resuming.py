# SPDX-License-Identifier: Apache-2.0
"""Does a training that was cut end where an unbroken one does?"""

from __future__ import annotations

from collections.abc import Iterator

from hpc_dl.prove.differences import SAME, between, states_apart
from hpc_dl.prove.row import Row
from hpc_dl.prove.trials import Trials


def same_ranks(trials: Trials) -> Iterator[Row]:
    """Bit for bit, with everything that draws."""
    ranks, engine, small = min(trials.ranks), trials.engines[0], trials.small
    what = f"resumed on the same {ranks} ranks, it ends bit for bit where it would have"
    unbroken = trials.several(ranks, engine)
    if unbroken.failure:
        yield Row(what, "cannot be shown", unbroken.failure)
        return
    resumed = trials.resumed(unbroken, small.cut, ranks, engine)
    if resumed.failure:
        yield Row(what, "not shown", resumed.failure)
        return
    largest = states_apart(resumed.states(small.steps), unbroken.states(small.steps))
    if largest.value:
        why = f"{_cut(trials)}; the largest is in {largest.where}: something goes on that no checkpoint holds"
        yield Row(what, "not shown", why, largest.value, 0.0)
        return
    yield Row(what, "shown", f"{_cut(trials)}; model, optimizer and all other states are the same", 0.0, 0.0)


def other_ranks(trials: Trials) -> Iterator[Row]:
    """To rounding, without what draws."""
    ranks, engine, small = max(trials.ranks), trials.engines[0], trials.small
    what = f"begun on {ranks} ranks and resumed on one process, it ends where one process does"
    one, begun = trials.one(plain=True), trials.several(ranks, engine, plain=True)
    if begun.failure:
        yield Row(what, "cannot be shown", begun.failure)
        return
    resumed = trials.resumed(begun, small.cut, 1, "single", plain=True)
    if resumed.failure:
        yield Row(what, "not shown", resumed.failure)
        return
    largest = between(resumed.parameters(small.steps), one.parameters(small.steps))
    how = f", {trials.differs_when_plain}" if trials.differs_when_plain else ""
    if largest.value <= SAME:
        yield Row(what, "shown", f"{_cut(trials)}{how}", largest.value, SAME)
    elif one.drawn:
        why = f"random numbers are drawn by {one.drawn}, others on another number of ranks"
        yield Row(what, "cannot be shown", why, largest.value, SAME)
    else:
        why = f"{_cut(trials)}{how}; the largest is in {largest.where}"
        yield Row(what, "not shown", why, largest.value, SAME)


def _cut(trials: Trials) -> str:
    small = trials.small
    per_epoch = -(-trials.one().log.header.epoch_samples // small.global_batch)
    where = "within an epoch" if small.cut % per_epoch else "between two epochs, of too few samples to cut one"
    return f"Cut after step {small.cut} of {small.steps}, {where}"
