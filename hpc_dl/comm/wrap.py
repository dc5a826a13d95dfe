# SPDX-License-Identifier: Apache-2.0
"""Make a model and its optimizer data-parallel: the same start on all ranks, averaged gradients at every step."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from hpc_dl.comm import compare
from hpc_dl.comm.agreement import compare_tensors, compared, is_due
from hpc_dl.comm.alone import NoExchange
from hpc_dl.comm.base import Engine
from hpc_dl.comm.exchange import GradientExchange
from hpc_dl.comm.flat import broadcast_state, broadcast_tensors
from hpc_dl.comm.optimizer_hooks import before_step
from hpc_dl.comm.rounds import rounds_of
from hpc_dl.comm.trained import TrainedTogether
from hpc_dl.errors import HpcDlError
from hpc_dl.settings import ExchangeSettings

_exchanges = itertools.count()
"""Numbers the exchanges of a process, the same on all ranks: several models may be distributed."""
WIRE_DTYPES = {"none": None, "fp16": torch.float16, "bf16": torch.bfloat16}


class Exchange(Protocol):
    """What a training loop needs of the gradient exchange."""

    lap: Callable[[str], None]
    """Called at the end of a phase: "backward", in which gradients were computed, and "exchange" behind it."""

    def finish(self) -> None:
        """On a rank without a backward: take part in the others'. After a backward, every gradient is the mean."""

    def paused(self) -> contextlib.AbstractContextManager[None]:
        """Backward passes in here accumulate without an exchange."""

    def backward(self, loss: Tensor, weight: float | Tensor) -> None:
        """Backward of a mean over `weight` things; the gradients become those of the mean over all ranks' things."""

    def weight_sum(self) -> Tensor:
        """The weights of all ranks' backward passes in the last exchange, summed: a scalar on the device."""


def wrap(engine: Engine, model: nn.Module, optimizer: Optimizer, settings: ExchangeSettings) -> Exchange:
    """Give all ranks rank 0's parameters, buffers and optimizer state, and average gradients from now on.

    The model and the optimizer stay what they are. After `backward`, every gradient of the model and of the optimizer
    is the mean over ranks; a rank without a backward takes part when its optimizer steps.

    Raises:
        HpcDlError: A setting asks for what the engine does not have.
    """
    if settings.adasum and not engine.supports_adasum:
        raise HpcDlError("exchange.adasum", f"engine {engine.name!r} has no adaptive sum", "use engine 'horovod'")
    if settings.adasum and engine.world_size & (engine.world_size - 1):
        raise HpcDlError("exchange.adasum", f"{engine.world_size} ranks", "start a power of two of them")
    trained = TrainedTogether(model, optimizer)
    if engine.world_size == 1:
        alone = NoExchange(engine, trained)
        _Kept.by(model).append(alone)
        return alone
    compare.models(engine, model, optimizer, settings)
    broadcast_tensors(engine, [*trained.all(), *model.buffers()])
    _send_state(engine, optimizer)
    exchanges = [exchange for exchange in rounds_of(engine).living() if exchange.shares(trained.all())]
    if not exchanges or rounds_of(engine).are_new(trained.all()):
        exchanges.append(
            GradientExchange(
                engine,
                trained,
                bucket_bytes=round(settings.bucket_megabytes * 2**20),
                wire_dtype=WIRE_DTYPES[settings.compression],
                adasum=settings.adasum,
                name=f"gradients.{next(_exchanges)}",
            )
        )
    steps = _Steps(engine, model, trained, exchanges, settings.check_every_steps)
    before_step(optimizer, steps.before, steps.mean)
    _Kept.by(model).extend(exchanges)
    return exchanges[-1]


class _Steps:
    """What happens before each step of an optimizer."""

    def __init__(
        self,
        engine: Engine,
        model: nn.Module,
        trained: TrainedTogether,
        exchanges: list[GradientExchange],
        check_every_steps: int | None,
    ) -> None:
        self._engine, self._model, self._trained, self._exchanges = engine, model, trained, exchanges
        self._check_every_steps = check_every_steps
        self._seen = [exchange.rounds for exchange in exchanges]
        self._done = 0

    def before(self) -> None:
        """Gradients that are the mean on every rank, parameters that are the same on all."""
        self._seen = [exchange.before_step(seen) for exchange, seen in zip(self._exchanges, self._seen, strict=True)]
        for exchange in self._exchanges:
            if exchange.newcomers:
                broadcast_tensors(self._engine, exchange.newcomers)
                exchange.newcomers.clear()
        self._done += 1
        if is_due(self._done, self._check_every_steps):
            for exchange in self._exchanges:
                exchange.meet()
            compare_tensors(self._compared(), self._engine, self._done - 1)

    def mean(self, loss: float | None) -> float | None:
        """A closure's loss over all ranks, so that line searches decide alike; None where no rank's closure has one."""
        mine = 0.0 if loss is None else self._exchanges[-1].mean(loss)
        known, mean = self._engine.average(torch.tensor([loss is not None, mine], dtype=torch.float64), "loss").tolist()
        return mean if known else None

    def _compared(self) -> dict[str, Tensor]:
        """Buffers only where somebody asked for the comparison: they may follow each rank's own samples."""
        named = compared(self._model) if self._check_every_steps else dict(self._model.named_parameters())
        known = {id(tensor) for tensor in named.values()}
        others = [parameter for parameter in self._trained.now() if id(parameter) not in known]
        return {**named, **{f"the optimizer's parameter {number}": p for number, p in enumerate(others)}}


class _Kept(list[Exchange]):
    """Keeps a model's exchanges as long as the model lives; copies of the model are nobody's."""

    @staticmethod
    def by(model: nn.Module) -> _Kept:
        """Those of a model."""
        kept: _Kept = model.__dict__.setdefault("_exchanges", _Kept())
        return kept

    def __deepcopy__(self, _: dict[int, Any]) -> _Kept:
        return _Kept()

    def __reduce__(self) -> tuple[type[list[Any]], tuple[()]]:
        return list, ()


def _send_state(engine: Engine, optimizer: Optimizer) -> None:
    """Rank 0's moments and options, in case it alone has loaded a checkpoint."""
    state = broadcast_state(engine, optimizer.state_dict() if engine.rank == 0 else None)
    if engine.rank == 0:
        return
    mine = optimizer.state_dict()
    if state["state"] or mine["state"] or repr(state["param_groups"]) != repr(mine["param_groups"]):
        optimizer.load_state_dict(state)
