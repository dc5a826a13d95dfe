# SPDX-License-Identifier: Apache-2.0
"""What is proved, in the order in which it is shown: a row of the table is a function of the trials."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from hpc_dl.errors import HpcDlError, nearest
from hpc_dl.prove import buffers, draws, evaluations, resuming, same_numbers, samples
from hpc_dl.prove.row import Row
from hpc_dl.prove.trials import Trials

ROWS: dict[str, Callable[[Trials], Iterator[Row]]] = {
    "numbers": same_numbers.same_numbers,
    "metrics": evaluations.metrics,
    "samples": samples.samples,
    "resume": resuming.same_ranks,
    "resume_elsewhere": resuming.other_ranks,
    "draws": draws.draws,
    "buffers": buffers.buffers,
}


def named(names: str) -> list[str]:
    """The rows of a list with commas; all where it is empty.

    Raises:
        HpcDlError: There is no row of some name.
    """
    for name in (chosen := [name for name in names.split(",") if name]):
        if name not in ROWS:
            raise HpcDlError(f"--only {name}", "no such row", nearest(name, ROWS))
    return chosen or list(ROWS)


def prove(trials: Trials, names: Iterable[str] = ROWS) -> Iterator[Row]:
    """The rows of these names, as they are found.

    Raises:
        HpcDlError: The training does not run on one process.
    """
    for name in names:
        yield from ROWS[name](trials)
