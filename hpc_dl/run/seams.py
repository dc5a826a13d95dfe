# SPDX-License-Identifier: Apache-2.0
"""The seams of a loop that is left as it is: where its steps begin and end, and the phases between, told by hooks.

A step ends with that of the optimizer. What follows, as a schedule, belongs to it until the next one begins: with the
next forward pass that keeps a graph, or, where there is none, with the optimizer's next step. Between two steps,
forward passes without a graph are an evaluation.

"backward" ends when autograd says so, "exchange" where somebody else averages gradients and it can be told: DDP waits
for its sums in a callback behind ours, Horovod's optimizer in its `synchronize`. All else, as clipping, belongs to the
phase that ends next.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.autograd import Variable
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.utils._pytree import tree_leaves
from torch.utils.hooks import RemovableHandle

DDP, HOROVOD = "DistributedDataParallel", "Horovod"


class Listener(Protocol):
    """Who is told."""

    def lap(self, phase: str) -> None:
        """A phase ends."""

    def began(self, phase: str) -> None:
        """A step begins; all that belonged to the one before has been done. What lies between belongs to the phase."""

    def ended(self) -> None:
        """It is done."""

    def aside(self) -> None:
        """A forward pass without a graph has ended between two steps."""


def exchanged_by(model: nn.Module, optimizer: Optimizer) -> str:
    """Who averages the gradients, as far as it can be seen; empty where nobody is known to."""
    if isinstance(model, DistributedDataParallel):
        return DDP
    return HOROVOD if hasattr(optimizer, "synchronize") and hasattr(optimizer, "skip_synchronize") else ""


class Seams:
    """Hooks on a model and an optimizer.

    Args:
        model: Which the loop calls; None where it is not known, and the optimizer alone speaks.
        optimizer: Whose steps count.
        listener: Is told.
        backward_tells: Do autograd's callbacks tell the end of backward, or does an exchange of ours?
    """

    def __init__(self, model: nn.Module | None, optimizer: Optimizer, listener: Listener, backward_tells: bool) -> None:
        self._listener, self._optimizer, self._backward_tells = listener, optimizer, backward_tells
        self._within, self._depth, self._waits, self._last = False, 0, False, ""
        self._hooks: list[RemovableHandle] = [
            optimizer.register_step_pre_hook(self._before_optimizer),
            optimizer.register_step_post_hook(self._after_optimizer),
        ]
        self._undo: list[Callable[[], None]] = []
        self._by = exchanged_by(model or nn.Module(), optimizer)
        if self._by == HOROVOD:
            self._time_synchronize(optimizer)
        if model is not None:
            self._watch(model)

    def lap(self, phase: str) -> None:
        """A phase of the step ends, if one is under way."""
        if self._within:
            self._last = phase
            self._listener.lap(phase)

    def close(self) -> None:
        """Leave model and optimizer alone."""
        self._within = False
        for hook in self._hooks:
            hook.remove()
        for undo in self._undo:
            undo()
        self._hooks, self._undo = [], []

    def _watch(self, model: nn.Module) -> None:
        compiled = getattr(model, "_compiled_call_impl", None)
        if compiled is None:
            self._hooks += [
                model.register_forward_pre_hook(self._before_forward),
                model.register_forward_hook(self._after_forward),
            ]
            return

        def watched(*arguments: Any, **options: Any) -> Any:  # model.compile() would take hooks into the graph
            self._before_forward(model, ())
            output = compiled(*arguments, **options)
            self._after_forward(model, (), output)
            return output

        model._compiled_call_impl = watched
        self._undo.append(lambda: setattr(model, "_compiled_call_impl", compiled))

    def forward_begins(self) -> None:
        """For a loop that tells it itself, since it calls its model by another name."""
        if not self._within and self._hooks:
            self._begin("input")
        elif self._last != "forward":  # the next part of a batch, or a closure's next call
            self.lap("optimizer" if self._depth else "input")

    def _begin(self, phase: str) -> None:
        self._within, self._waits, self._depth, self._last = True, False, 0, "input"
        self._listener.began(phase)

    def _before_forward(self, *_: Any) -> None:
        if torch.is_grad_enabled():
            self.forward_begins()

    def _after_forward(self, _module: nn.Module, _arguments: Any, output: Any) -> None:
        if not torch.is_grad_enabled():
            if not self._within:
                self._listener.aside()
            return
        self.lap("forward")
        if self._backward_tells:
            for leaf in tree_leaves(output):
                if isinstance(leaf, Tensor) and leaf.requires_grad:
                    leaf.register_hook(self._backward_begins)

    def _backward_begins(self, _gradient: Tensor) -> None:
        if not self._waits and self._hooks:
            self._waits = True
            Variable._execution_engine.queue_callback(self._backward_ends)

    def _backward_ends(self) -> None:
        self._waits = False
        self.lap("backward")
        if self._by == DDP:  # it has queued its own by now, in which it waits
            Variable._execution_engine.queue_callback(lambda: self.lap("exchange"))

    def _before_optimizer(self, *_: Any) -> None:
        if not self._within:
            self._begin("other")  # a closure computes all, or the model was not called: nobody knows what has passed
        elif self._depth == 0 and self._last in ("input", "forward"):  # no backward has spoken
            self.lap("backward")
        self._depth += 1  # some optimizers' steps call that of their base, which has the hooks, too

    def _after_optimizer(self, *_: Any) -> None:
        self._depth = max(0, self._depth - 1)
        if self._depth == 0 and self._within:
            self.lap("optimizer")
            self._within = False
            self._listener.ended()

    def _time_synchronize(self, optimizer: Any) -> None:
        synchronize = optimizer.synchronize

        def timed() -> None:
            self.lap("backward" if self._last in ("input", "forward") else "optimizer")
            synchronize()
            self.lap("exchange")

        optimizer.synchronize = timed
        self._undo.append(lambda: delattr(optimizer, "synchronize"))
