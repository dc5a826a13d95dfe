# SPDX-License-Identifier: Apache-2.0
"""Are buffers (statistics of batch normalisation, the user's own) the same on all ranks?"""

from __future__ import annotations

from collections.abc import Iterator

from hpc_dl.prove.differences import between
from hpc_dl.prove.row import Row
from hpc_dl.prove.trials import Trial, Trials


def buffers(trials: Trials) -> Iterator[Row]:
    """One row; with the reason why buffers differ while ranks train, where they do."""
    ranks, engine = max(trials.ranks), trials.engines[0]
    what = f"buffers are the same on all of {ranks} ranks after a checkpoint"
    trial = trials.several(ranks, engine)
    if trial.failure:
        yield Row(what, "cannot be shown", trial.failure)
        return
    if not trial.witness["buffers"]:
        yield Row(what, "shown", "The model has none")
        return
    apart = _apart(trial, "buffers")
    largest = max(apart.values(), default=0.0)
    if apart:
        why = f"{', '.join(apart)}: whole numbers are not averaged; change them alike on all ranks"
        yield Row(what, "not shown", why, largest, 0.0)
        return
    yield Row(what, "shown", _while_training(trial), largest, 0.0)


def apart_in_training(trial: Trial) -> dict[str, float]:
    """Buffers that differed between ranks in the last step, before they were averaged; and by how much."""
    return _apart(trial, "buffers_in_training")


def _apart(trial: Trial, when: str) -> dict[str, float]:
    first, *others = (witness[when] for witness in trial.witnesses)
    names = {name: max(between({name: other[name]}, {name: first[name]}).value for other in others) for name in first}
    return {name: value for name, value in names.items() if value}


def _while_training(trial: Trial) -> str:
    apart = apart_in_training(trial)
    if not apart:
        return "They are so in every step"
    layers = set(trial.witness["batch_norms"])
    own = [name for name in apart if name.rpartition(".")[0] not in layers]
    words = [f"Averaged for checkpoints and evaluations; in a step they differ by up to {max(apart.values()):.1e}."]
    if len(own) < len(apart):
        words.append("Those of batch normalisation are each rank's own, without device.sync_batchnorm.")
    if own:
        words.append(
            f"Of your own: {', '.join(own)}. Where they feed the forward pass in training, sum them over ranks first."
        )
    return " ".join(words)
