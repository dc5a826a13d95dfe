# SPDX-License-Identifier: Apache-2.0
"""A small task, and hooks for it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import hpc_dl
from hpc_dl.data.base import Arrays, Data

NOTES: list[tuple[Any, ...]] = []


def data() -> Data:
    x = torch.randn(32, 4, generator=torch.Generator().manual_seed(0))
    return Data(Arrays(x, x.sum(1, keepdim=True)), Arrays(x[:8], x[:8].sum(1, keepdim=True)))


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))


class Noted:
    """Notes what it is told, and freezes the first layer in the first epoch."""

    def __init__(self, model: nn.Module, optimizer: Any, session: hpc_dl.Session, fail_at: int = -1) -> None:
        self._model, self._fail_at = model, fail_at
        NOTES.clear()

    def on_epoch(self, epoch: int) -> None:
        NOTES.append(("epoch", epoch))
        self._model[0].requires_grad_(epoch > 0)

    def on_step(self, step: int) -> None:
        NOTES.append(("step", step, self._model[0].weight.detach().clone()))
        if step == self._fail_at:
            raise ZeroDivisionError("of the hook's own")

    def on_evaluation(self, step: int, metrics: dict[str, float]) -> None:
        NOTES.append(("evaluation", step, metrics))

    def on_checkpoint(self, step: int) -> None:
        NOTES.append(("checkpoint", step))


def nothing(model: nn.Module, optimizer: Any, session: hpc_dl.Session) -> object:
    return object()


def worse_each_time(output: Tensor, target: Tensor) -> float:
    """A metric that is best in its second evaluation."""
    return float(len([note for note in NOTES if note[0] == "evaluation"]) == 1)
