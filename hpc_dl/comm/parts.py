# SPDX-License-Identifier: Apache-2.0
"""Which models and optimizers were made data-parallel, as long as somebody uses them."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import nn

from hpc_dl.comm.wrap import Exchange
from hpc_dl.errors import HpcDlError


class Distributed(NamedTuple):
    """What was made data-parallel together."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    exchange: Exchange


_Weak = tuple["weakref.ref[nn.Module]", "weakref.ref[torch.optim.Optimizer]", "weakref.ref[Exchange]"]


class Parts:
    """All of a session, none of which it keeps alive."""

    def __init__(self) -> None:
        self._parts: list[_Weak] = []

    def add(self, model: nn.Module, optimizer: torch.optim.Optimizer, exchange: Exchange) -> None:
        """One more."""
        self._parts.append((weakref.ref(model), weakref.ref(optimizer), weakref.ref(exchange)))

    def there(self) -> list[Distributed]:
        """Those that still are, in the order in which they came."""
        found = ((model(), optimizer(), exchange()) for model, optimizer, exchange in self._parts)
        return [Distributed(*part) for part in found if None not in part]  # type: ignore[arg-type]

    def of(self, state: Iterable[object]) -> list[Distributed]:
        """Those whose model or optimizer is among some objects; all where none is."""
        named = {id(part) for part in state}
        found = [part for part in self.there() if id(part.model) in named or id(part.optimizer) in named]
        return found or self.there()

    def exchange_of(self, part: nn.Module | torch.optim.Optimizer) -> Exchange:
        """The gradient exchange of a model or optimizer.

        Raises:
            HpcDlError: It was not made data-parallel.
        """
        for model, optimizer, exchange in reversed(self.there()):
            if part is model or part is optimizer:
                return exchange
        raise HpcDlError(
            f"the exchange of this {type(part).__name__}",
            "it is none of those that were distributed",
            "call session.distribute(model, optimizer), and ask with one of the two",
        )
