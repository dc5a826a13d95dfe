# SPDX-License-Identifier: Apache-2.0
"""Do N ranks end at the parameters of one process?"""

from __future__ import annotations

from collections.abc import Iterator

from hpc_dl.prove.buffers import apart_in_training
from hpc_dl.prove.differences import SAME, Largest, between, of_losses
from hpc_dl.prove.row import Row, Verdict
from hpc_dl.prove.trials import Trial, Trials

MOVED = 1e-7
"""Parameters that move less prove nothing."""


def same_numbers(trials: Trials) -> Iterator[Row]:
    """One row for each number of ranks and engine."""
    for ranks in trials.ranks:
        for engine in trials.engines:
            yield _row(trials, ranks, engine)


def _row(trials: Trials, ranks: int, engine: str) -> Row:
    what = f"{ranks} ranks ({engine}) end at the parameters of one process"
    one, several = trials.one(plain=True), trials.several(ranks, engine, plain=True)
    if several.failure:
        return Row(what, "not shown", several.failure)
    last, cut = trials.small.steps, trials.small.cut
    if len({witness["checksum"] for witness in several.witnesses}) > 1:
        return Row(what, "not shown", "Ranks end at parameters that differ from each other: something acts by rank")
    moved = between(one.parameters(last), one.parameters(cut)).value
    parameters = between(several.parameters(last), one.parameters(last))
    largest = parameters | of_losses(several.log, one.log)
    verdict, why = _judged(trials, one, several, largest, moved)
    return Row(what, verdict, why, largest.value, SAME)


def _judged(trials: Trials, one: Trial, several: Trial, largest: Largest, moved: float) -> tuple[Verdict, str]:
    if largest.value > SAME:
        if one.drawn:
            return "cannot be shown", (
                f"Random numbers are drawn that could not be switched off, by {one.drawn}: ranks draw others than one "
                "process. Switch them off by an option of your own, and prove it again"
            )
        return "not shown", f"The largest is in {largest.where}. {_hints(several)}"
    if moved < MOVED:
        return "cannot be shown", f"Parameters move by {moved:.0e} only; give a larger rate or more --steps"
    how = f"{trials.differs_when_plain}: " if trials.differs_when_plain else ""
    exact = f"{how}parameters, and losses in the log, are the same; parameters moved by {moved:.0e} after the cut"
    if trials.local_batch_norms:
        return "cannot be shown", f"{_local(trials, several)} {exact[0].upper()}{exact[1:]}"
    why = ". With it on, ranks draw other numbers than one process, by design" if trials.draws else ""
    return "shown", f"{exact[0].upper()}{exact[1:]}{why}"


def _local(trials: Trials, several: Trial) -> str:
    """Why batch normalisation by rank is something else."""
    layers = trials.local_batch_norms
    as_it_is = trials.several(several.ranks, several.engine)
    unequal = "" if as_it_is.failure else f" (its statistics differ between ranks by {_unequal(as_it_is):.1e})"
    return (
        f"{len(layers)} batch normalisations, such as {layers[0] or 'the model'}, normalise over the samples of one "
        f"rank{unequal}, and one process over all: another function. Remedy: device.sync_batchnorm, or layers that do "
        "without statistics."
    )


def _unequal(trial: Trial) -> float:
    names = tuple(trial.witness["local_batch_norms"])
    apart = apart_in_training(trial)
    return max((value for name, value in apart.items() if name.rpartition(".")[0] in names), default=0.0)


def _hints(several: Trial) -> str:
    """What else is known that may be the reason."""
    hints = []
    if said := several.said("warning: task."):
        hints.append(f"At the start it said: {said}.")
    if apart := apart_in_training(several):
        hints.append(f"Buffers differ between ranks while they train ({', '.join(apart)}); do they feed forward?")
    return " ".join(hints) or "Look for what acts by rank: the loss's weights, hooks, the environment"
