# SPDX-License-Identifier: Apache-2.0
"""Weights: the mean over the global batch for losses that average something else than samples.

A loss that is a mean over tokens, pixels or class weights gives the global mean only if each rank's gradient counts as
much as its weight: the sum of weight x gradient over ranks and passes, divided by the sum of the weights. Passes under
`paused()` and the first one outside are one mean; each further one is a term of its own, as on one process.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from hpc_dl.comm.base import Lane, Work
from hpc_dl.errors import HpcDlError

TURNS = 16
"""Steps are compared by their remainder: the squares of 70,000 ranks add up to a number that float32 still holds."""

LEAST = 1e-12
"""Below it, a sum of weights is none, and a sum's difference from one is rounding."""


def checked(weight: float | Tensor) -> float:
    """A weight as a number.

    Raises:
        HpcDlError: It is negative or no number.
    """
    number = float(weight)
    if not 0 <= number < math.inf:
        raise HpcDlError(f"a backward with the weight {number}", "no amount", "give what the loss averages over")
    return number


class Weights:
    """The weights, on this rank, of the backward passes that become one mean."""

    def __init__(self) -> None:
        self.total: float | None = None
        """None where no pass had one."""
        self.under_way = False
        """Does a backward with a weight run?"""
        self._touched = False
        """Did a pass give gradients?"""
        self._aside: list[tuple[Parameter, Tensor]] = []

    @contextlib.contextmanager
    def passing(self, weight: float, parameters: list[Parameter]) -> Iterator[None]:
        """Around a backward with a weight; before the first one, what the gradients hold already is put aside."""
        if self._touched and all(parameter.grad is None for parameter in parameters):
            self.close()  # the passes so far were thrown away
        before = self.total
        if before is None:
            self.put_aside(parameters)
        self.total, self.under_way = (before or 0.0) + weight, True
        try:
            yield
        except BaseException:
            self.total = before
            raise
        finally:
            self.under_way = False
            if self.total is None:
                self.close()

    def put_aside(self, parameters: Iterable[Parameter]) -> None:
        """Gradients of a mean that is complete are not weighted again."""
        for parameter in parameters:
            if parameter.grad is not None:
                self._aside.append((parameter, parameter.grad))
                parameter.grad = None

    @torch.no_grad()
    def close(self) -> None:
        """The mean is complete: what was put aside is added to it."""
        for parameter, gradient in self._aside:
            parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
        self._aside.clear()
        self.total, self._touched = None, False

    def arrived(self) -> None:
        """A gradient is there: in the middle of a mean, one without a weight is a mistake."""
        if self.total is not None and not self.under_way:
            raise mixture()
        self._touched = self.under_way


class Heading:
    """What ranks tell each other as a round begins, summed over ranks: the weight of their gradients, and how many
    steps they have done.

    On the host it travels with the first bucket where that has a type that holds it; else in a sum of its own, which
    goes on under backward, so waiting for it costs nothing.
    """

    NUMBERS = 5
    """Has this rank a weight; which; its steps, and their square; has it nothing, but gradients of a mean before?"""

    def __init__(self, lane: Lane, name: str, world_size: int, gradients: Tensor) -> None:
        self._lane, self._name, self._world_size = lane, name, world_size
        dtype = torch.float64 if gradients.dtype == torch.float64 else torch.float32
        self._own = torch.zeros(self.NUMBERS, dtype=dtype, device=gradients.device)
        self._on_host = gradients.device.type == "cpu"
        self._seen: Any = self._own.numpy() if self._on_host else self._own
        self._weight_sum: float | Tensor = 0.0
        self._work: Work | None = None

    def numbers(self, weight: float | None, steps: int, keeps: bool = False) -> list[float]:
        """This rank's."""
        turn = steps % TURNS
        return [float(weight is not None), weight or 0.0, turn, turn * turn, float(keeps)]

    def send(self, weight: float | None, steps: int) -> None:
        """Start a sum of its own."""
        self._own.copy_(torch.tensor(self.numbers(weight, steps), dtype=self._own.dtype))
        self._work = self._lane.reduce_async(self._own, "sum", self._name)
        self._seen = self._own.numpy() if self._on_host else self._own

    def wait(self) -> None:
        """Until that sum is there."""
        if self._work is not None:
            self._work.wait()
            self._work = None

    def read(self, numbers: Any) -> None:
        """Take the sum that came with a bucket."""
        self._seen = numbers

    def weighted(self) -> bool:
        """Did a rank give a weight? Waits for the device."""
        return bool(self._seen[0] > 0)

    def misled(self) -> bool:
        """Did ranks give weights, and others gradients of a mean before, not knowing that?"""
        return self.weighted() and bool(self._seen[4] > 0)

    def factor(self, weight: float | None, contributes: bool) -> Tensor | float | None:
        """From the mean of weight x gradient to the weighted mean; None where no rank gave a weight.

        Raises:
            HpcDlError: Other ranks gave weights and this one gave gradients without (seen where looking is free).
        """
        if weight is None:
            if (contributes and not self._on_host) or not self.weighted():
                return None
            if contributes:
                raise mixture()
        total = self._seen[1]
        self._weight_sum = max(float(total), LEAST) if self._on_host else total.clamp(min=LEAST)
        return self._world_size / self._weight_sum

    def is_one(self, factor: Tensor | float | None) -> bool:
        """Would it change nothing, where looking is free?"""
        return isinstance(factor, float) and abs(factor - 1) < 4 * torch.finfo(self._own.dtype).eps

    def weight_sum(self) -> Tensor:
        """Of the weights of all ranks in the last round that had some, a scalar."""
        return torch.as_tensor(self._weight_sum, dtype=self._own.dtype)

    def check(self, steps: int) -> None:
        """Compare where the ranks are, where looking is free.

        Raises:
            HpcDlError: On all ranks: they are not at the same step.
        """
        if self._on_host and self._world_size * float(self._seen[3]) != float(self._seen[2]) ** 2:
            raise HpcDlError(
                "as many backward passes on every rank before each step",
                f"this rank's optimizer has done {steps} steps, and those of other ranks more or fewer",
                "run the same number outside of paused() on all ranks, or exchange.finish() in place of a missing one",
            )


def mixture() -> HpcDlError:
    """Some ranks or passes gave a weight and others did not."""
    return HpcDlError(
        "gradients of one mean",
        "some backward passes since the last exchange had a weight, and others had none",
        "call exchange.backward(loss, weight) for all of them, on all ranks",
    )
