# SPDX-License-Identifier: Apache-2.0
"""Where the time of a step goes in a loop of one's own: phases end where model, exchange and optimizer say so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.hooks import RemovableHandle

from hpc_dl.comm.parts import Distributed


class Phases:
    """Calls at the end of the phases of a step.

    "forward" ends with the forward pass of a model, "backward" with that of the loss, "exchange" when the gradients are
    the mean over ranks, "optimizer" with the optimizer's step. What the loop does between them belongs to the phase
    that ends next; a compiled model has no end of its own, so its forward pass counts as backward.
    """

    def __init__(self, parts: Sequence[Distributed], lap: Callable[[str], None], alone: bool) -> None:
        self.rate: Any = parts[0].optimizer.param_groups[0]["lr"]
        """Of the first optimizer's first group in its last step; a schedule may have changed it since."""
        self._hooks: list[RemovableHandle] = [parts[0].optimizer.register_step_post_hook(self._took)]
        self._lap, self._alone, self._counts = lap, alone, False
        self._exchanges = []
        for model, optimizer, exchange in parts:
            if getattr(model, "_compiled_call_impl", None) is None:
                self._hooks.append(model.register_forward_hook(self._ending("forward")))
            if alone:  # no exchange tells the end of backward
                self._hooks.append(optimizer.register_step_pre_hook(self._ending("backward")))
            self._hooks.append(optimizer.register_step_post_hook(self._ending("optimizer")))
            exchange.lap = self._end
            self._exchanges.append(exchange)

    def begin(self) -> None:
        """A step begins."""
        self._counts = True

    def end(self) -> None:
        """The step is over; what models and optimizers do until the next one belongs to no phase."""
        self._counts = False

    def close(self) -> None:
        """Leave models and optimizers alone."""
        for hook in self._hooks:
            hook.remove()
        for exchange in self._exchanges:
            exchange.lap = lambda phase: None

    def _took(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        self.rate = optimizer.param_groups[0]["lr"]

    def _end(self, phase: str) -> None:
        if self._counts:
            self._lap(phase)

    def _ending(self, phase: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            self._end(phase)

        return hook
