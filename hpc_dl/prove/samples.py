# SPDX-License-Identifier: Apache-2.0
"""Is each training sample used exactly once in an epoch, over all ranks?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from hpc_dl.prove.row import Row
from hpc_dl.prove.trials import Trial, Trials


def samples(trials: Trials) -> Iterator[Row]:
    """One row for each number of ranks: the numbers asked of the source, and whether they mean the same on all."""
    one = trials.one()
    for ranks in trials.ranks:
        what = f"each training sample is used exactly once in an epoch on {ranks} ranks"
        trial = trials.several(ranks, trials.engines[0])
        if trial.failure:
            yield Row(what, "cannot be shown", trial.failure)
        else:
            yield _row(what, trials, one, trial)


def _row(what: str, trials: Trials, one: Trial, trial: Trial) -> Row:
    length, batch = one.log.header.epoch_samples, trials.small.global_batch
    left_out = length % batch if trials.small.settings.training.drop_last else 0
    if trials.small.steps < (length - left_out) // batch + (not left_out and length % batch > 0):
        return Row(what, "cannot be shown", f"{trials.small.steps} steps are less than an epoch; give more --steps")
    asked = Counter(number for witness in trial.witnesses for number in witness["epochs"][0])
    often = [number for number, count in sorted(asked.items()) if count > 1]
    if often or len(asked) != length - left_out:
        why = f"{len(asked)} of {length} were asked for, more than once: {_listed(often) or 'none'}"
        return Row(what, "not shown", why)
    if changing := [number for number, content in enumerate(one.witness["contents"]) if not content]:
        why = (
            f"numbers are asked for once, but samples {_listed(changing)} are others when read again: the source "
            "draws from a generator of its own, and which sample is which cannot be told"
        )
        return Row(what, "cannot be shown", why)
    for rank, witness in enumerate(trial.witnesses):
        if differing := _differing(witness["contents"], one.witness["contents"]):
            why = (
                f"numbers are asked for once, but samples {_listed(differing)} are others on rank {rank} than on one "
                "process: the source must give the same sample for a number on all ranks, and share nothing out itself"
            )
            return Row(what, "not shown", why)
    counts = Counter(one.witness["contents"])
    twice = [number for number, content in enumerate(one.witness["contents"]) if counts[content] > 1]
    if twice:
        why = f"numbers are asked for once, but samples {_listed(twice)} have contents that others have, too"
        return Row(what, "cannot be shown", f"{why}: are there duplicates in the source?")
    left = f"; the {left_out} of the last batch are left out (training.drop_last)" if left_out else ""
    why = f"Counted: what all ranks asked of the source in an epoch of {length - left_out} samples{left}"
    return Row(what, "shown", f"{why}; a number is the same sample on all ranks, and no two are alike")


def _differing(mine: Sequence[str], theirs: Sequence[str]) -> list[int]:
    return [number for number, (one, other) in enumerate(zip(mine, theirs, strict=True)) if one != other]


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:5])) + (f" and {len(numbers) - 5} more" if len(numbers) > 5 else "")
