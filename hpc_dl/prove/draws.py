# SPDX-License-Identifier: Apache-2.0
"""Do ranks draw random numbers of their own, where any are drawn?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hpc_dl.prove.row import Row
from hpc_dl.prove.trials import Trials


def draws(trials: Trials) -> Iterator[Row]:
    """One row: no two ranks draw from the same state in a step."""
    ranks, engine = max(trials.ranks), trials.engines[0]
    what = f"each of {ranks} ranks draws random numbers of its own"
    if not trials.draws:
        yield Row(what, "shown", "None are drawn in training, by model, loss or data")
        return
    trial = trials.several(ranks, engine)
    if trial.failure:
        yield Row(what, "cannot be shown", trial.failure)
    elif alike := _alike([witness["draws"] for witness in trial.witnesses]):
        why = f"{alike}: something seeds the generators alike on all ranks; leave seeding to training.seed"
        yield Row(what, "not shown", why)
    else:
        yield Row(what, "shown", f"Drawn in training by {trials.draws}; no two ranks draw the same in a step")


def _alike(of_ranks: list[list[list[Any]]]) -> str:
    """Where two ranks drew from the same state; empty where none did."""
    for step, found in enumerate(zip(*of_ranks, strict=True)):
        seen: dict[tuple[str, str], int] = {}
        for rank, calls in enumerate(found):
            for name, state in {tuple(call) for call in calls}:
                if (other := seen.setdefault((name, state), rank)) != rank:
                    return f"in step {step} ranks {other} and {rank} draw the same numbers ({name})"
    return ""
