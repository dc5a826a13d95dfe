# SPDX-License-Identifier: Apache-2.0
"""Windows of steps: reduced over ranks while the next window trains, then written by rank 0.

Two small collectives a second (a window, where windows last longer) carry everything, one sum and one maximum, whatever
the world size; they are waited for a second later, when they have long come. The maximum also carries what each rank
would do next (`stopping.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from hpc_dl.comm.base import Engine
from hpc_dl.run.stopping import Watch
from hpc_dl.runlog.records import PHASES, Spread, Window

QUANTITIES = (*PHASES, "seconds")
REDUCTION_SECONDS = 1.0
MOST_TOGETHER = 32
TICK_SECONDS = 1e-7
RANK_BITS = 20
"""A maximum carries the rank it comes from in its low bits: room for 2**20 ranks, and for windows of days."""


@dataclass(frozen=True)
class LocalWindow:
    """A window as one rank saw it."""

    first_step: int
    warmup: bool
    epoch: int
    samples: float
    """This rank's share."""
    phases: dict[str, float]
    step_seconds: tuple[float, ...]
    learning_rate: float
    loss_sum: float
    """Sum of the losses of this rank's samples."""
    terms: dict[str, float] = field(default_factory=dict)
    """Such sums of further quantities; the same names on all ranks."""
    loss_samples: float | None = None
    """Of how many of this rank's samples the loss is known; None for all."""

    @property
    def known(self) -> float:
        """This rank's samples whose loss is in the sum."""
        return self.samples if self.loss_samples is None else self.loss_samples


class Reduction:
    """Windows under way to all ranks, and what this rank would do next."""

    def __init__(self, engine: Engine, windows: Sequence[LocalWindow], wish: int = 0) -> None:
        self._windows, self._world_size = windows, engine.world_size
        sums = [[*_quantities(w), *w.terms.values(), w.samples, w.known, w.loss_sum] for w in windows]
        self._sums = torch.tensor(sums, dtype=torch.float64)
        ticks = [[round(value / TICK_SECONDS) for value in _quantities(window)] for window in windows]
        extremes = [
            [tick << RANK_BITS | engine.rank for tick in row] + [-tick for tick in row] + [wish] for row in ticks
        ]
        self._extremes = torch.tensor(extremes, dtype=torch.int64)
        # Named by their number, too: Horovod remembers the shape that belongs to a name.
        self._works = (
            engine.reduce_async(self._sums, "sum", f"window.sums.{len(windows)}.{len(sums[0])}"),
            engine.reduce_async(self._extremes, "max", f"window.extremes.{len(windows)}"),
        )

    def result(self) -> list[Window]:
        """The windows over all ranks; waits for the collectives."""
        for work in self._works:
            work.wait()
        rows = zip(self._windows, self._sums.tolist(), self._extremes.tolist(), strict=True)
        return [self._over_ranks(window, sums, extremes) for window, sums, extremes in rows]

    def agreed(self) -> int:
        """The largest wish of all ranks; after `result`."""
        return int(self._extremes[-1, -1])

    def _over_ranks(self, window: LocalWindow, sums: list[float], extremes: list[int]) -> Window:
        spreads = {
            quantity: Spread(
                mean=sums[number] / self._world_size,
                min=-extremes[len(QUANTITIES) + number] * TICK_SECONDS,
                max=(extremes[number] >> RANK_BITS) * TICK_SECONDS,
                max_rank=extremes[number] & ((1 << RANK_BITS) - 1),
            )
            for number, quantity in enumerate(QUANTITIES)
        }
        samples, known, loss_sum = sums[-3:]
        terms = sums[len(QUANTITIES) : -3]
        return Window(
            first_step=window.first_step,
            steps=len(window.step_seconds),
            warmup=window.warmup,
            epoch=window.epoch,
            samples=round(samples),
            seconds=spreads.pop("seconds"),
            phases=spreads,
            step_seconds=window.step_seconds,
            learning_rate=window.learning_rate,
            loss=loss_sum / known if known else None,
            terms={name: total / known for name, total in zip(window.terms, terms, strict=True) if known},
        )


def _quantities(window: LocalWindow) -> list[float]:
    phases = [window.phases[phase] for phase in PHASES]
    return [*phases, sum(phases)]


class WindowStream:
    """Takes local windows in, hands whole ones on while later ones train, and lets the ranks' watches agree."""

    def __init__(self, engine: Engine, listener: Callable[[Window], None], watch: Watch) -> None:
        self._engine, self._listener, self._watch = engine, listener, watch
        self._waiting: list[LocalWindow] = []
        self._full_steps = 1
        """Of the longest window so far: those before an evaluation are cut short."""
        self._together = 1
        """Windows of one reduction: as many as begin in `REDUCTION_SECONDS`, by what all ranks know of the last one."""
        self._under_way: Reduction | None = None

    def push(self, window: LocalWindow) -> None:
        """Take in a window. All ranks call it; now and then it starts a reduction and hands on the one before."""
        self._waiting.append(window)
        if len(self._waiting) >= self._together:
            self._start()

    def flush(self) -> None:
        """Hand on all windows that are not whole yet. All ranks call it."""
        if self._waiting:
            self._start()
        self._collect()

    def _start(self) -> None:
        self._collect()
        self._under_way, self._waiting = Reduction(self._engine, self._waiting, self._watch.wish()), []

    def _collect(self) -> None:
        if self._under_way is None:
            return
        windows = self._under_way.result()
        self._watch.hear(self._under_way.agreed())
        self._under_way = None
        last = windows[-1]
        self._full_steps = max(self._full_steps, last.steps)
        full_seconds = last.seconds.max / last.steps * self._full_steps
        self._together = math.ceil(REDUCTION_SECONDS / max(full_seconds, TICK_SECONDS))
        self._together = min(self._together, MOST_TOGETHER)
        for window in windows:
            self._listener(window)
