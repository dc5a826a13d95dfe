# SPDX-License-Identifier: Apache-2.0
"""Doubts about where the time of a step went."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from hpc_dl.report.note import Note
from hpc_dl.scaling.comparable import name_some

if TYPE_CHECKING:
    from hpc_dl.report.study import Findings
    from hpc_dl.scaling.efficiency import Size

UNACCOUNTED = 0.02


def unaccounted(findings: Findings) -> Iterator[Note]:
    for found in findings.splits:
        if abs(found.unaccounted) > UNACCOUNTED:
            ranks = found.size.world_size
            yield Note("question", f"The phases at {ranks:,} ranks miss {100 * found.unaccounted:.1f} % of the step.")


def exchange_unmeasured(findings: Findings) -> Iterator[Note]:
    """A followed loop exchanges its gradients as it likes, and not all ways can be told from backward."""
    sizes = [f"{p.size.world_size:,}" for p in findings.points if p.size.world_size > 1 and not _exchanged(p.size)]
    if sizes:
        yield Note(
            "problem",
            f"At ranks {name_some(sizes)} the exchange of gradients was not measured by itself: its time is in "
            "backward or optimizer, and no communication or imbalance can be told from them.",
        )


def _exchanged(size: Size) -> bool:
    """Has a phase of that name taken any time, or are there no phases?"""
    windows = [window for measured in size.runs for window in measured.windows]
    return any("exchange" not in window.phases or window.phases["exchange"].max > 0 for window in windows)


def stragglers(findings: Findings) -> Iterator[Note]:
    for found in findings.splits:
        slow = found.straggler
        if slow and slow.share >= 0.5:
            yield Note(
                "question",
                f"Rank {slow.rank} is the slowest at {found.size.world_size:,} ranks in {100 * slow.share:.0f} % of "
                f"the windows: {1000 * slow.seconds:.3g} ms a step beyond the mean, in {slow.phase}.",
            )
