# SPDX-License-Identifier: Apache-2.0
"""When does an exchange end? With the backward that began it, all exchanges of that backward together.

A round begins with the first gradient of a backward and ends in a callback that autograd runs behind its last one, so
that after `loss.backward()` every gradient is the mean over ranks. Where a backward runs inside of another one (as
activation checkpointing with `use_reentrant=True` does), the outermost counts.

All ranks take part in a round with all exchanges that got a gradient on any of them: with several exchanges, they
agree on which.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd import Variable
from torch.nn import Parameter

from hpc_dl.comm.base import Engine, Lane
from hpc_dl.comm.weights import Weights, mixture

if TYPE_CHECKING:
    from hpc_dl.comm.exchange import GradientExchange

_of_engine: weakref.WeakKeyDictionary[Engine, Rounds] = weakref.WeakKeyDictionary()


def rounds_of(engine: Engine) -> Rounds:
    """The rounds of all exchanges over an engine."""
    return _of_engine.setdefault(engine, Rounds())


class _Backward:
    """Lives as long as autograd holds a callback of the backward that began a round."""


class Rounds:
    """The exchanges of an engine, and the round that is under way."""

    def __init__(self) -> None:
        self._members: list[weakref.ref[GradientExchange]] = []
        self.weights = Weights()
        self.pausing = False
        """Does a backward run that belongs to a mean whose last pass is still to come?"""
        self.count = 0
        """Rounds that have ended."""
        self._lane: Lane | None = None
        self._taking_part: dict[int, GradientExchange] = {}
        self._tasks: set[int] = set()
        """Backward passes seen in this round: the outermost one and those inside of it."""
        self._backward: weakref.ref[_Backward] | None = None

    def add(self, member: GradientExchange, engine: Engine) -> int:
        """A new exchange; its number is the same on all ranks."""
        self._members.append(weakref.ref(member))
        if len(self._members) == 2:
            self._lane = engine.lane()
        return len(self._members) - 1

    def enter(self, number: int) -> None:
        """An exchange got a gradient, in the backward under way."""
        task = torch._C._current_graph_task_id()
        if task not in self._tasks:
            if self._taking_part and self._died():
                self._end(lost=True)
            self._follow(task, self._backward_now())
        if number not in self._taking_part:
            self._begin(number)

    def finish(self, number: int | None = None) -> None:
        """End the round now; a rank that had no backward names an exchange the others' backward may have begun."""
        if number is not None:
            self._begin(number)
        self._end(lost=False)

    def backward(self, loss: Tensor, weight: float, number: int, paused: bool) -> None:
        """Backward with a weight, whichever exchanges it touches; the pass that is not paused ends the mean."""
        members, round_number = self.living(), self.count
        if weight:
            if self.weights.total is None and any(member.is_behind() for member in members):
                raise mixture()
            with self.weights.passing(weight, [p for member in members for p in member.parameters()]):
                self.pausing = paused
                try:
                    (loss * weight).backward()
                finally:
                    self.pausing = False
        if not paused and self.count == round_number:
            self.finish(number)

    def holder(self, parameter: Parameter) -> GradientExchange | None:
        """The exchange that averages a parameter's gradient."""
        return next((member for member in self.living() if member.holds(parameter)), None)

    def are_new(self, parameters: Iterable[Parameter]) -> bool:
        """Is one of them trained, and averaged by no exchange?"""
        return any(parameter.requires_grad and self.holder(parameter) is None for parameter in parameters)

    def living(self) -> list[GradientExchange]:
        """The exchanges whose models or optimizers are still there."""
        return [member for reference in self._members if (member := reference()) is not None]

    def _begin(self, number: int) -> None:
        if number in self._taking_part:
            return
        member = self._members[number]()
        if member is not None:
            self._taking_part[number] = member
            member.begin()

    def _end(self, lost: bool) -> None:
        try:
            for member in self._taking_part.values():
                member.lap("backward")
            self._take_in_passes()
            sent = {number for number, member in self._taking_part.items() if lost or member.contributes()}
            for number in sent:
                self._taking_part[number].send_rest(lost)
            for number in self._agree() if self._taking_part else ():
                self._begin(number)
            for number, member in sorted(self._taking_part.items()):
                if number not in sent:  # it may wait to hear what the others send
                    member.send_rest(lost)
            for _, member in sorted(self._taking_part.items()):
                member.receive(lost)
            for member in self._taking_part.values():
                member.lap("exchange")
            if not lost:
                self.weights.close()
            self.count += bool(self._taking_part)
        finally:
            self._taking_part.clear()
            self._tasks.clear()
            self._backward = None

    def _take_in_passes(self) -> None:
        """What got gradients in paused passes ends with the pass behind them, whether that touches it or not."""
        for number, reference in enumerate(self._members if self._taking_part else ()):
            member = reference()
            if member is not None and member.is_behind():
                self._begin(number)

    def _agree(self) -> list[int]:
        """Exchanges that got a gradient on any rank."""
        if self._lane is None:
            return list(self._taking_part)
        seen = torch.zeros(len(self._members))
        seen[list(self._taking_part)] = 1.0
        self._lane.reduce_async(seen, "max", "gradients.of.any.rank").wait()
        return [int(number) for number in seen.nonzero().flatten()]

    def _died(self) -> bool:
        """Has the backward that began this round ended by an error, without its callback?"""
        return self._backward is not None and self._backward() is None

    def _backward_now(self) -> _Backward:
        backward = None if self._backward is None else self._backward()
        if backward is None:
            backward = _Backward()
            self._backward = weakref.ref(backward)
        return backward

    def _follow(self, task: int, backward: _Backward) -> None:
        """Let autograd call back at the end of this backward."""
        self._tasks.add(task)
        Variable._execution_engine.queue_callback(functools.partial(self._ended, backward))

    def _ended(self, backward: _Backward) -> None:
        """A backward has ended: the outermost one, or one inside of it. Then the one around it is followed, too."""
        if not self._taking_part:
            return
        around = torch._C._current_autograd_node()
        nodes = [] if around is None else [node for node, _ in around.next_functions if node is not None]
        if not nodes:
            self._end(lost=False)
            return
        handles: list[Any] = []

        def goes_on(_: Any) -> None:
            for handle in handles:
                handle.remove()
            task = torch._C._current_graph_task_id()
            if self._taking_part and task not in self._tasks:
                self._follow(task, backward)

        handles += [node.register_prehook(goes_on) for node in nodes]
