# SPDX-License-Identifier: Apache-2.0
"""The exchange of one process: its gradient is the mean."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import Parameter

from hpc_dl.comm.base import Engine
from hpc_dl.comm.weights import LEAST, Weights, checked

_of_engine: weakref.WeakKeyDictionary[Engine, tuple[Weights, weakref.WeakSet[NoExchange]]] = weakref.WeakKeyDictionary()


class Trained(Protocol):
    """What is trained."""

    def all(self) -> Iterable[Parameter]:
        """Parameters."""


class NoExchange:
    """Puts means with weights together that take several passes, and does nothing else.

    Args:
        engine: Of one rank.
        trained: The parameters.
    """

    def __init__(self, engine: Engine, trained: Trained) -> None:
        self._trained, self._pauses = trained, 0
        self.lap: Callable[[str], None] = lambda phase: None
        """Of passes under `paused()` only: whoever steps knows that a backward has ended."""
        self._weight_sum = 0.0
        self._weights, self._members = _of_engine.setdefault(engine, (Weights(), weakref.WeakSet()))
        self._members.add(self)

    def finish(self) -> None:
        """Nothing is left to do."""

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Passes with a weight in here and the next one outside are one mean."""
        self._pauses += 1
        try:
            yield
            self.lap("backward")
        finally:
            self._pauses -= 1

    def backward(self, loss: Tensor, weight: float | Tensor) -> None:
        """Backward of a loss that is a mean over `weight` things."""
        weight = checked(weight)
        self._weight_sum = (self._weights.total or 0.0) + weight
        if not self._pauses and self._weights.total is None:
            if weight:
                loss.backward()
            return
        parameters = list(dict.fromkeys(p for member in self._members for p in member._trained.all()))
        if weight:
            with self._weights.passing(weight, parameters):
                (loss * weight).backward()
        if not self._pauses:
            self._complete(parameters)

    def weight_sum(self) -> Tensor:
        """The weights of the passes of the last mean, summed."""
        return torch.tensor(max(self._weight_sum, LEAST), dtype=torch.float64)

    @torch.no_grad()
    def _complete(self, parameters: list[Parameter]) -> None:
        total = self._weights.total or 1.0
        for parameter in parameters if abs(total - 1) > LEAST else ():
            if parameter.grad is not None:
                parameter.grad.div_(total)
        self._weights.close()
