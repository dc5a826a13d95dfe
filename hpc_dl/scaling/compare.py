# SPDX-License-Identifier: Apache-2.0
"""Before and after: whether a change of throughput is real, and where in the step it sits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hpc_dl.errors import HpcDlError
from hpc_dl.scaling.comparable import TRAITS, decide_scaling
from hpc_dl.scaling.differences import Difference, compare_environments
from hpc_dl.scaling.efficiency import Size, sizes
from hpc_dl.scaling.runs import Collection, collect
from hpc_dl.scaling.split import Split, split
from hpc_dl.scaling.statistics import Estimate, quotient

Verdict = Literal["faster", "slower", "not shown"]
SAME_WORK = ("model", "parameters", "model options", "batch rule", "data source")
"""Traits without which samples per second do not count the same thing; all others may be the change."""


@dataclass(frozen=True)
class Pair:
    """One size, before and after."""

    before: Split
    after: Split
    ratio: Estimate
    """Throughput after over throughput before."""

    @property
    def verdict(self) -> Verdict:
        """Faster or slower where the interval leaves 1 out."""
        if self.ratio.known and self.ratio.low > 1:
            return "faster"
        if self.ratio.known and self.ratio.high < 1:
            return "slower"
        return "not shown"

    @property
    def covers_jobs(self) -> bool:
        """Whether the interval covers variation from job to job on both sides."""
        return all(side.size.basis != "windows" for side in (self.before, self.after))


@dataclass(frozen=True)
class Comparison:
    """All sizes that both sides have, and what differs between the sides."""

    pairs: tuple[Pair, ...]
    changed: tuple[Difference, ...]
    sides: tuple[Collection, Collection]


def read_comparison(before: Path, after: Path) -> Comparison:
    """Compare the runs in two folders, size by size."""
    return compare(collect([before]), collect([after]))


def compare(before: Collection, after: Collection) -> Comparison:
    """Compare two collections of runs, size by size.

    Raises:
        HpcDlError: The runs of one side differ among themselves, the sides did other work, or share no size.
    """
    decide_scaling(before.runs)
    decide_scaling(after.runs)
    for trait in SAME_WORK:
        values = [TRAITS[trait](side.runs[0].header) for side in (before, after)]
        if values[0] != values[1]:
            raise HpcDlError(
                f"comparison of runs that differ in {trait}",
                f"{values[0]} before, {values[1]} after",
                "compare runs of the same work; the change may be anything else",
            )
    return Comparison(
        pairs=_pairs(sizes(before.runs), sizes(after.runs)),
        changed=compare_environments([*before.runs, *after.runs]).differing,
        sides=(before, after),
    )


def _pairs(before: Sequence[Size], after: Sequence[Size]) -> tuple[Pair, ...]:
    found = [(old, new) for old in before for new in after if _shape(old) == _shape(new)]
    if not found:
        listing = [", ".join(map(_shape, side)) for side in (before, after)]
        raise HpcDlError(
            "comparison of runs that share no size",
            f"{listing[0]} before; {listing[1]} after",
            "compare runs with the same ranks, nodes and global batch",
        )
    return tuple(Pair(split(old), split(new), quotient(old.cost, new.cost)) for old, new in found)


def _shape(size: Size) -> str:
    return f"{size.world_size:,} ranks on {size.nodes:,} nodes with global batch {size.header.global_batch:,}"
