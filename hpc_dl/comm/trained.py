# SPDX-License-Identifier: Apache-2.0
"""Which parameters are trained? Asked again as each round begins: some are unfrozen or added to the optimizer later."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from torch import nn
from torch.nn import Parameter
from torch.optim import Optimizer

from hpc_dl.comm.optimizer_hooks import trained_parameters


class Trained(Protocol):
    """Parameters whose gradients are averaged together."""

    def now(self) -> Iterable[Parameter]:
        """Those an optimizer holds; cheap."""

    def all(self) -> Iterable[Parameter]:
        """Everything that is to be averaged, in order of registration."""


class TrainedTogether:
    """The parameters of a model and an optimizer."""

    def __init__(self, model: nn.Module, optimizer: Optimizer) -> None:
        self.model, self._optimizer = model, optimizer

    def now(self) -> list[Parameter]:
        """Those the optimizer holds."""
        return trained_parameters(self._optimizer)

    def all(self) -> list[Parameter]:
        """Those of the model in order of registration, whose reverse is about that of backward, and the optimizer's.

        Optimizers group parameters by weight decay, and backward knows nothing of that: in their order, a bucket of
        biases would wait for the first layer, and all others for it.
        """
        return list(dict.fromkeys([*self.model.parameters(), *self.now()]))


class Fixed(list[Parameter]):
    """Parameters that stay."""

    def now(self) -> Iterable[Parameter]:
        """None is new."""
        return ()

    def all(self) -> Iterable[Parameter]:
        """All there are."""
        return self
