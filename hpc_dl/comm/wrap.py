# SPDX-License-Identifier: Apache-2.0
"""Make a model and its optimizer data-parallel: the same start on all ranks, averaged gradients at every step."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Protocol

import torch
from torch import nn

from hpc_dl.comm.base import Engine
from hpc_dl.comm.exchange import GradientExchange
from hpc_dl.comm.flat import broadcast_tensors
from hpc_dl.devices.ipex import before_step, holders
from hpc_dl.errors import HpcDlError
from hpc_dl.settings import ExchangeSettings

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
    if engine.world_size == 1:
        return NoExchange()
    broadcast_tensors(engine, [*model.parameters(), *model.buffers()])
    exchange = GradientExchange(
        engine,
        holders(optimizer),
        bucket_bytes=round(settings.bucket_megabytes * 2**20),
        wire_dtype=WIRE_DTYPES[settings.compression],
        adasum=settings.adasum,
    )
    before_step(optimizer, exchange.finish_if_needed)
    return exchange
