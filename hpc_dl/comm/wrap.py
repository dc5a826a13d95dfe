# SPDX-License-Identifier: Apache-2.0
"""Make a model and its optimizer data-parallel: the same start on all ranks, averaged gradients at every step."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import Protocol

import torch
from torch import nn

from hpc_dl.comm import compare
from hpc_dl.comm.base import Engine
from hpc_dl.comm.exchange import GradientExchange
from hpc_dl.comm.flat import broadcast_tensors
from hpc_dl.devices.ipex import before_step, holders
from hpc_dl.errors import HpcDlError
from hpc_dl.settings import ExchangeSettings

_exchanges = itertools.count()
"""Numbers the exchanges of a process, the same on all ranks: several models may be distributed."""
WIRE_DTYPES = {"none": None, "fp16": torch.float16, "bf16": torch.bfloat16}


class Exchange(Protocol):
    """What a training loop needs of the gradient exchange."""

    def finish(self) -> None:
        """After backward: every gradient is now the mean over ranks."""

    def paused(self) -> contextlib.AbstractContextManager[None]:
        """Backward passes in here accumulate without an exchange."""


class NoExchange:
    """One rank: its gradient is the mean."""

    def finish(self) -> None:
        return None

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        yield


def wrap(engine: Engine, model: nn.Module, optimizer: torch.optim.Optimizer, settings: ExchangeSettings) -> Exchange:
    """Give all ranks rank 0's parameters and buffers, and average gradients from now on.

    The model and the optimizer stay what they are. The optimizer finishes the exchange by itself before it steps, so
    any loop works; a loop that clips gradients calls `finish` first.

    Raises:
        HpcDlError: A setting asks for what the engine does not have.
    """
    if settings.adasum and not engine.supports_adasum:
        raise HpcDlError("exchange.adasum", f"engine {engine.name!r} has no adaptive sum", "use engine 'horovod'")
    if settings.adasum and engine.world_size & (engine.world_size - 1):
        raise HpcDlError("exchange.adasum", f"{engine.world_size} ranks", "start a power of two of them")
    if engine.world_size == 1:
        return NoExchange()
    compare.models(engine, model, optimizer, settings)
    broadcast_tensors(engine, [*model.parameters(), *model.buffers()])
    exchange = GradientExchange(
        engine,
        _in_order_of(model, holders(optimizer)),
        bucket_bytes=round(settings.bucket_megabytes * 2**20),
        wire_dtype=WIRE_DTYPES[settings.compression],
        adasum=settings.adasum,
        name=f"gradients.{next(_exchanges)}",
    )
    before_step(optimizer, exchange.finish_if_needed)
    return exchange


def _in_order_of(model: nn.Module, parameters: list[nn.Parameter]) -> list[nn.Parameter]:
    """The optimizer's parameters in the order the model registers them, whose reverse is about that of backward.

    Optimizers group parameters by weight decay, and backward knows nothing of that: in their order, a bucket of biases
    would wait for the first layer, and all others for it.
    """
    place = {id(parameter): number for number, parameter in enumerate(model.parameters())}
    return sorted(parameters, key=lambda parameter: place.get(id(parameter), len(place)))
