# SPDX-License-Identifier: Apache-2.0
"""When a run is evaluated, and what follows from it: the best weights are kept, and training may end."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hpc_dl.errors import HpcDlError, nearest
from hpc_dl.run.checkpoint import Position
from hpc_dl.run.loop import Loop
from hpc_dl.run.stopping import due
from hpc_dl.settings import Settings

Listener = Callable[[int, Mapping[str, float]], None]
"""Hears of a step and the metrics after it."""


@dataclass(frozen=True)
class Outcome:
    """How a training run ended."""

    reason: str
    """finished or stopped."""
    position: Position
    metrics: dict[str, float]
    """Of the last evaluation."""
    why: str = ""
    """Why it stopped before its end."""


class Evaluations:
    """The evaluations of a run; part of a checkpoint.

    Args:
        settings: How often, and which metric is followed.
        evaluate: Gives the metrics of all ranks' samples, and the number of samples.
        listeners: Told of each, in this order.
    """

    def __init__(
        self,
        settings: Settings,
        evaluate: Callable[[], tuple[dict[str, float], int]],
        listeners: Sequence[Listener] = (),
    ) -> None:
        self._best, self._every_epochs = settings.best, settings.training.evaluate_every_epochs
        self._evaluate, self._listeners = evaluate, listeners
        self.metrics: dict[str, float] = {}
        """Of the last one."""
        self._step = 0
        self._value: float | None = None
        self._worse = 0

    def resume(self, loop: Loop) -> None:
        """Before the first step: what a run that was stopped after an epoch has left to do."""
        if self._step < loop.position.step and (loop.over or loop.position.epoch_samples == 0):
            self.after_epoch(loop)
        elif self._verdict():
            loop.end(self._verdict())

    def after_epoch(self, loop: Loop) -> None:
        """Evaluate where that is due, and do what follows from it. All ranks call it."""
        step, begun = loop.position.step, time.perf_counter()
        if not (loop.over or due(self._every_epochs, loop.position.epoch)):
            return
        with loop.evaluating():
            self.metrics, samples = self._evaluate()
        loop.log_evaluation(self.metrics, samples, time.perf_counter() - begun)
        for listener in self._listeners:
            listener(step, self.metrics)
        if self._improved(step):
            loop.checkpoint("best")
        if self._verdict() and not loop.over:
            loop.end(self._verdict())

    def state_dict(self) -> dict[str, Any]:
        return {"step": self._step, "value": self._value, "worse": self._worse}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._step, self._value, self._worse = state["step"], state["value"], state["worse"]

    def _improved(self, step: int) -> bool:
        """Is the last evaluation the best so far?"""
        self._step, name = step, self._best.metric
        if not name:
            return False
        if name not in self.metrics:
            found = "no such metric in the evaluation"
            raise HpcDlError(f"best.metric = {name!r}", found, nearest(name, self.metrics))
        value = self.metrics[name] if self._best.goal == "max" else -self.metrics[name]
        better = not math.isnan(value) and (self._value is None or value > self._value)
        self._value, self._worse = (value, 0) if better else (self._value, self._worse + 1)
        return better

    def _verdict(self) -> str:
        """Why training is to end; empty where it goes on."""
        if not self._best.patience or self._worse < self._best.patience:
            return ""
        return f"no better {self._best.metric} in {self._worse} evaluations"
