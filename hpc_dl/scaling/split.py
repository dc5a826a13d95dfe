# SPDX-License-Identifier: Apache-2.0
"""Where the seconds of a step went at each size, and which part of the efficiency each cause took.

Ranks wait for each other inside the exchange. The rank that waits least is the last to arrive, so its exchange is
communication that backward did not hide; what the others wait beyond it is imbalance. A rank that is slow by turns
within one window shows as communication: windows are sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hpc_dl.runlog.records import PHASES, Window
from hpc_dl.scaling.efficiency import Size

PARTS = ("input", "forward", "backward", "communication", "imbalance", "optimizer", "other")
CAUSES = {
    "communication": ("communication",),
    "imbalance": ("imbalance",),
    "input": ("input",),
    "compute": ("forward", "backward", "optimizer"),
    "other": ("other",),
}
"""Causes of lost efficiency. "compute" grows per sample where the local batch shrinks (smaller kernels)."""
ALONE = tuple(phase for phase in PHASES if phase != "exchange")
"""Phases that a rank goes through without the others."""
LEAST_EXCESS = 0.02
"""Share of a step below which no rank is called the slowest."""


@dataclass(frozen=True)
class Straggler:
    """The rank that is most often the slowest outside of the exchange, and where."""

    rank: int
    phase: str
    share: float
    """Share of the windows in which it is."""
    seconds: float
    """Seconds per step beyond the mean of all ranks."""


@dataclass(frozen=True)
class Split:
    """The parts of a step at one size; they sum to the step of the slowest rank."""

    size: Size
    seconds: dict[str, float]
    """Seconds per step of each of `PARTS`; empty where a log has no phases."""
    unaccounted: float
    """Share of the step that no phase covered; it is in "other"."""
    straggler: Straggler | None

    def per_sample(self, part: str) -> float:
        """Rank-seconds per sample: what a sample costs, whatever the size."""
        header = self.size.header
        return self.seconds[part] * header.world_size / header.global_batch


def split(size: Size) -> Split:
    """The step split of a size: the mean over its runs, per full global batch."""
    windows = [window for measured in size.runs for window in measured.windows]
    if not all(set(PHASES) <= set(window.phases) for window in windows):
        return Split(size, {}, 0.0, None)
    total = dict.fromkeys(PARTS, 0.0)
    for measured in size.runs:
        samples = sum(window.samples for window in measured.windows)
        weight = size.header.global_batch / samples / len(size.runs)
        for part, seconds in _parts(measured.windows).items():
            total[part] += weight * seconds
    missing = size.cost.value * size.header.global_batch - sum(total.values())
    total["other"] += missing
    return Split(size, total, missing / sum(total.values()), _straggler(windows))


def _parts(windows: Sequence[Window]) -> dict[str, float]:
    """Seconds of each part in all windows together."""
    exchange = [window.phases["exchange"] for window in windows]
    waiting = sum(spread.mean - spread.min for spread in exchange)
    return {
        **{phase: sum(window.phases[phase].mean for window in windows) for phase in ALONE},
        "communication": sum(spread.min for spread in exchange),
        "imbalance": waiting + sum(window.seconds.max - window.seconds.mean for window in windows),
    }


def _straggler(windows: Sequence[Window]) -> Straggler | None:
    """Found by counting, window by window, who is furthest beyond the mean outside of the exchange."""
    excess: dict[tuple[int, str], list[float]] = {}
    for window in windows:
        beyond, rank, phase = max(
            (window.phases[phase].max - window.phases[phase].mean, window.phases[phase].max_rank, phase)
            for phase in ALONE
        )
        excess.setdefault((rank, phase), []).append(beyond)
    (rank, phase), found = max(excess.items(), key=lambda item: len(item[1]))
    if sum(found) < LEAST_EXCESS * sum(window.seconds.max for window in windows):
        return None
    steps = sum(window.steps for window in windows)
    return Straggler(rank, phase, len(found) / len(windows), sum(found) / steps)


def lost(found: Split, baseline: Split) -> dict[str, float]:
    """Efficiency lost to each of `CAUSES`, in shares of 1: they sum to 1 - efficiency.

    With w the rank-seconds per sample, E = w0 / w, so 1 - E = sum over the parts of (w_part - w0_part) / w. A negative
    share is efficiency gained.
    """
    whole = sum(found.per_sample(part) for part in PARTS)
    return {
        cause: sum(found.per_sample(part) - baseline.per_sample(part) for part in parts) / whole
        for cause, parts in CAUSES.items()
    }
