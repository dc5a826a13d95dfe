# SPDX-License-Identifier: Apache-2.0
"""Windows of steps: reduced over ranks while the next window trains, then written by rank 0.

Two small collectives per window carry everything (one sum, one maximum), whatever the world size; they are waited for
one window later, when they have long come.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from hpc_dl.comm.base import Engine
from hpc_dl.scaling.records import PHASES, Spread, Window

QUANTITIES = (*PHASES, "seconds")
TICK_SECONDS = 1e-7
RANK_BITS = 20
"""A maximum carries the rank it comes from in its low bits: room for 2**20 ranks, and for windows of days."""


@dataclass(frozen=True)
class LocalWindow:
    """A window as one rank saw it."""

    first_step: int
    warmup: bool
    epoch: int
    samples: int
    """Of all ranks."""
    phases: dict[str, float]
    step_seconds: tuple[float, ...]
    learning_rate: float
    loss_sum: float
    """Sum of the losses of this rank's samples."""


class Reduction:
    """A window under way to all ranks."""

    def __init__(self, engine: Engine, window: LocalWindow) -> None:
        self._window, self._world_size = window, engine.world_size
        values = [window.phases[phase] for phase in PHASES]
        values.append(sum(values))
        ticks = [round(value / TICK_SECONDS) for value in values]
        self._sums = torch.tensor([*values, window.loss_sum], dtype=torch.float64)
        largest = [tick << RANK_BITS | engine.rank for tick in ticks]
        self._extremes = torch.tensor([*largest, *(-tick for tick in ticks)], dtype=torch.int64)
        self._works = (
            engine.reduce_async(self._sums, "sum", "window.sums"),
            engine.reduce_async(self._extremes, "max", "window.extremes"),
        )

    def result(self) -> Window:
        """The window over all ranks; waits for the collectives."""
        for work in self._works:
            work.wait()
        sums, extremes = self._sums.tolist(), self._extremes.tolist()
        spreads = {
            quantity: Spread(
                mean=sums[number] / self._world_size,
                min=-extremes[len(QUANTITIES) + number] * TICK_SECONDS,
                max=(extremes[number] >> RANK_BITS) * TICK_SECONDS,
                max_rank=extremes[number] & ((1 << RANK_BITS) - 1),
            )
            for number, quantity in enumerate(QUANTITIES)
        }
        window = self._window
        return Window(
            first_step=window.first_step,
            steps=len(window.step_seconds),
            warmup=window.warmup,
            epoch=window.epoch,
            samples=window.samples,
            seconds=spreads.pop("seconds"),
            phases=spreads,
            step_seconds=window.step_seconds,
            learning_rate=window.learning_rate,
            loss=sums[-1] / max(1, window.samples),
        )


class WindowStream:
    """Takes local windows in, hands whole ones on, one window later."""

    def __init__(self, engine: Engine, listener: Callable[[Window], None]) -> None:
        self._engine, self._listener = engine, listener
        self._under_way: Reduction | None = None

    def push(self, window: LocalWindow) -> None:
        """Start to reduce a window; the one before is handed to the listener. All ranks call it."""
        self.flush()
        self._under_way = Reduction(self._engine, window)

    def flush(self) -> None:
        """Hand on the window that is still under way."""
        if self._under_way is not None:
            self._listener(self._under_way.result())
            self._under_way = None
