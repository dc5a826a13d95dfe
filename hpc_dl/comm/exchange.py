# SPDX-License-Identifier: Apache-2.0
"""Gradient averaging while backward runs: flat buckets, summed by any engine.

Parameters are put into buckets in reverse order of registration, which is about the order in which backward finishes
them. A hook on each parameter counts down its bucket; a full bucket is filled (gradient x 1/world size, one pass) and
its sum started (`sums.py`). At the end of backward (`rounds.py`) the rest is started, parameters without a gradient
counting as zero, and each `.grad` becomes its place in the bucket.

A further backward adds to the mean: each rank holds the mean so far and its own part, and the mean of that is right.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.utils.hooks import RemovableHandle

from hpc_dl.comm.base import Engine
from hpc_dl.comm.buckets import Bucket
from hpc_dl.comm.rounds import rounds_of
from hpc_dl.comm.sums import Sums
from hpc_dl.comm.trained import Fixed, Trained
from hpc_dl.comm.weights import checked
from hpc_dl.errors import HpcDlError


class GradientExchange:
    """Averages the gradients of some parameters over all ranks.

    Args:
        engine: Sums a flat tensor.
        trained: Shared parameters may occur twice; frozen ones are left out until they are trained.
        bucket_bytes: About how much is summed at a time; 0 gives each parameter a bucket of its own.
        wire_dtype: Type of the gradients on the wire, None for their own.
        adasum: Horovod's adaptive sum in place of the mean.
        name: Tells this exchange from others, the same on all ranks.
    """

    def __init__(
        self,
        engine: Engine,
        trained: Trained | Iterable[Parameter],
        bucket_bytes: int,
        wire_dtype: torch.dtype | None = None,
        adasum: bool = False,
        name: str = "gradients",
    ) -> None:
        self._rounds = rounds_of(engine)
        self._sums = Sums(engine, self._rounds.weights, bucket_bytes, wire_dtype, adasum, name)
        self._trained: Trained = trained if hasattr(trained, "now") else Fixed(trained)  # type: ignore[assignment]
        self._place: dict[int, tuple[Bucket, int]] = {}
        self._hooks: list[RemovableHandle] = []
        self._pauses, self._steps = 0, 0
        self._early, self._repeats, self._settled = False, False, False
        self._pending = False
        self._share: float | Tensor = 1.0
        self.newcomers: list[Parameter] = []
        """Taken in after the start; whoever sends them to all ranks clears the list."""
        self.lap: Callable[[str], None] = lambda phase: None
        """Called at the end of a phase: "backward", in which gradients were computed, and "exchange" behind it."""
        self.rounds = 0
        """How often gradients were exchanged."""
        self._take()
        self._number = self._rounds.add(self, engine)

    @property
    def buckets(self) -> list[Bucket]:
        """In the order in which their sums are started."""
        return self._sums.buckets

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Backward passes in here only accumulate; the next one outside exchanges the total."""
        self._pauses += 1
        try:
            yield
            self.lap("backward")
        finally:
            self._pauses -= 1

    def finish(self) -> None:
        """On a rank without a backward, take part in the exchange of the others'. Elsewhere nothing is left to do."""
        if not (self._settled and self._in_place()):
            self._rounds.finish(self._number)

    def backward(self, loss: Tensor, weight: float | Tensor) -> None:
        """Backward of a loss that is a mean over `weight` things: the gradients become those of the global mean.

        Passes under `paused()` and the first one outside are one mean. A weight of 0 says that this rank has nothing.
        """
        self._rounds.backward(loss, checked(weight), self._number, paused=self._pauses > 0)

    def before_step(self, seen: int) -> int:
        """Exchange what an optimizer needs for its step; `seen`: the number of rounds at its step before.

        Returns:
            The number of rounds by now.
        """
        if self.rounds == seen or not self._in_place():
            self._rounds.finish(self._number)
        self._settled = False
        self._steps += 1
        return self.rounds

    def meet(self) -> None:
        """Refuse to go on where ranks are not at the same step: some would wait here, and others in a backward."""
        self._sums.compare_steps(self._steps)

    def mean(self, loss: float) -> float:
        """A rank's loss, as part of the mean over ranks of the last exchange."""
        return loss * float(self._share) if self._share else 0.0

    def weight_sum(self) -> Tensor:
        """The weights of all ranks' backward passes in the last exchange, summed: a scalar on the device."""
        return self._sums.heading.weight_sum()

    def holds(self, parameter: Parameter) -> bool:
        """Is its gradient averaged here?"""
        return id(parameter) in self._place

    def shares(self, parameters: Iterable[Parameter]) -> bool:
        """Is one of their gradients averaged here?"""
        return any(self.holds(parameter) for parameter in parameters)

    # What follows is called by a round, in this order.

    def begin(self) -> None:
        """A round has begun, and nothing has been sent yet."""
        unknown = [parameter for parameter in self._trained.now() if id(parameter) not in self._place]
        if any(parameter.requires_grad and self._is_new(parameter) for parameter in unknown):
            self._take()
        self._sums.begin()
        self._settled = False

    def is_behind(self) -> bool:
        """Are there gradients of this rank from passes under a `paused()` that is over?"""
        return self._pending and not self._pauses and any(parameter.grad is not None for parameter in self.parameters())

    def contributes(self) -> bool:
        """Did a backward of this rank give a gradient since the last exchange?"""
        return self._pending or any(bucket.arrived for bucket in self.buckets)

    def send_rest(self, lost: bool) -> None:
        """Start the sums that have not been started; `lost`: of gradients that an error has left incomplete."""
        self._sums.launch_rest(self._steps, lost, keeps=not lost and self._keeps())

    def receive(self, lost: bool) -> None:
        """Wait for all sums and hand the gradients out, unless they are lost."""
        self._sums.hear(self._steps, lost)
        contributes = self.contributes()
        self._pending = False
        for bucket in self.buckets:
            bucket.arrived.clear()
        if lost:
            self._sums.wait()
            return
        heading, weight = self._sums.heading, self._rounds.weights.total
        heading.check(self._steps)
        factor = heading.factor(weight, contributes)
        self._share = 1.0 if factor is None else factor * (weight or 0.0)
        self._sums.hand_out(None if heading.is_one(factor) else factor)
        self.rounds += 1
        self._settled, self._early = True, not self._repeats

    def _arrived(self, parameter: Parameter) -> None:
        """A gradient is there. In the first round none is sent yet: it shows whether some arrive several times."""
        self._rounds.weights.arrived()
        if self._pauses or self._rounds.pausing:
            self._pending = True
            return
        self._rounds.enter(self._number)
        bucket, slot = self._place[id(parameter)]
        if slot in bucket.arrived:
            self._arrived_again(bucket)
            return
        bucket.arrived.add(slot)
        bucket.missing -= 1
        if self._early:
            self._sums.launch_full(self._steps)

    def _keeps(self) -> bool:
        """Has this rank nothing but gradients of a mean before? They count, unless other ranks give weights."""
        idle = self._rounds.weights.total is None and not self.contributes()
        return idle and any(parameter.grad is not None for parameter in self.parameters())

    def _arrived_again(self, bucket: Bucket) -> None:
        """A shared layer under checkpoint(use_reentrant=True): from now on, everything is sent behind backward."""
        self._repeats, self._early = True, False
        if bucket in self.buckets[: self._sums.launched]:
            raise HpcDlError(
                "one gradient of each parameter in a backward",
                "another one came after the first was sent (a layer is shared by checkpoints, and was not at first)",
                "call torch.utils.checkpoint.checkpoint with use_reentrant=False",
            )

    def _take(self) -> None:
        """Put everything that is trained now into buckets."""
        for hook in self._hooks:
            hook.remove()
        before = self._place
        everything = dict.fromkeys(self._trained.all())
        trained = [p for p in everything if self.holds(p) or (p.requires_grad and self._is_new(p))]
        self._sums.take(trained)
        self._place = {id(p): (bucket, slot) for bucket in self.buckets for slot, p in enumerate(bucket.parameters)}
        tell = _teller(weakref.ref(self))
        self._hooks = [parameter.register_post_accumulate_grad_hook(tell) for parameter in trained]
        self.newcomers += [parameter for parameter in trained if before and id(parameter) not in before]
        self._early = False

    def _is_new(self, parameter: Parameter) -> bool:
        return not self.holds(parameter) and self._rounds.holder(parameter) is None

    def parameters(self) -> list[Parameter]:
        """All that are averaged here."""
        return [parameter for bucket in self.buckets for parameter in bucket.parameters]

    def _in_place(self) -> bool:
        """Are gradients of the last exchange still there (or were there none)?"""
        handed_out = [bucket for bucket in self.buckets if bucket.handed_out]
        return not handed_out or any(bucket.holds_gradients() for bucket in handed_out)


def _teller(exchange: weakref.ref[GradientExchange]) -> Callable[[Parameter], None]:
    """A hook that keeps no exchange alive: parameters and their hooks are no cycle that Python could collect."""

    def tell(parameter: Parameter) -> None:
        there = exchange()
        if there is not None:
            there._arrived(parameter)

    return tell
