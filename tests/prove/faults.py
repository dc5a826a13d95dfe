# SPDX-License-Identifier: Apache-2.0
"""Models, losses, sources and hooks that depend on the number of ranks, each in one way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from hpc_dl.cluster.rank import detect_rank
from hpc_dl.data.base import Arrays, Data
from hpc_dl.data.sharding import Indices
from hpc_dl.environment import environment
from hpc_dl.session import Session
from tests.parallel import objectives

SAMPLES = 29


class Network(nn.Sequential):
    """Nothing is wrong with it."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 2))


def rows() -> Data:
    """Nor with these."""
    x = torch.randn(SAMPLES, 6, generator=torch.Generator().manual_seed(0))
    y = torch.stack([x.sum(1), x.square().sum(1)], 1)
    return Data(Arrays(x, y), Arrays(x, y))


def plain_mean(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """A mean over tokens that passes for one over samples."""
    mean, _ = objectives.next_token(model, batch)
    return mean


def rmse(output: Tensor, target: Tensor) -> Tensor:
    """A root of a mean, which is no mean."""
    return functional.mse_loss(output, target).sqrt()


class _Source:
    def __init__(self) -> None:
        self.rows = rows().train

    def __len__(self) -> int:
        return SAMPLES


class _OfRank(_Source):
    def batch(self, indices: Indices) -> Any:
        x, y = self.rows.batch(indices)
        return x + 0.5 * detect_rank(environment()).rank * torch.from_numpy(indices == 3)[:, None], y


class _Twice(_Source):
    def batch(self, indices: Indices) -> Any:
        return self.rows.batch(indices // 2)


class _Noisy(_Source):
    def batch(self, indices: Indices) -> Any:
        x, y = self.rows.batch(indices)
        return x + 0.1 * torch.randn_like(x), y


class _OwnGenerator(_Source):
    generator = torch.Generator()

    def batch(self, indices: Indices) -> Any:
        x, y = self.rows.batch(indices)
        return x + 0.1 * torch.randn(x.shape, generator=self.generator), y


def own_generator() -> Data:
    """Random augmentation that no seed of the training reaches."""
    return Data(_OwnGenerator(), rows().evaluation)


def of_rank() -> Data:
    """One sample, which no check at the start looks at, is another on rank 1."""
    return Data(_OfRank(), rows().evaluation)


def twice() -> Data:
    """Each sample under two numbers."""
    return Data(_Twice(), rows().evaluation)


def noisy() -> Data:
    """Random augmentation; no fault."""
    return Data(_Noisy(), rows().evaluation)


class SeededAlike(Network):
    """Dropout by a seed of the model's own."""

    def forward(self, x: Tensor) -> Tensor:
        torch.manual_seed(7)
        answer: Tensor = functional.dropout(super().forward(x), 0.3, self.training)
        return answer


class Centred(Network):
    """Subtracts a running mean of the rank's own samples."""

    centre: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(6))

    def forward(self, x: Tensor) -> Tensor:
        if self.training and len(x):
            self.centre.lerp_(x.detach().mean(0), 0.5)
        answer: Tensor = super().forward(x - self.centre)
        return answer


class Counting(Network):
    """A whole number of the rank's own, which is not averaged."""

    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        self.seen += len(x) if self.training else 0
        answer: Tensor = super().forward(x)
        return answer


class Forgetful(Network):
    """Something grows that no checkpoint holds."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0

    def forward(self, x: Tensor) -> Tensor:
        self.steps += self.training
        answer: Tensor = super().forward(x) * (1 + 0.1 * self.steps)
        return answer


class RateOfRank:
    """Lowers the rate on rank 1, after the last step in which a training of six compares its ranks by itself."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, session: Session) -> None:
        self._optimizer, self._rank = optimizer, session.rank

    def on_step(self, step: int) -> None:
        if step >= 4 and self._rank == 1:
            for group in self._optimizer.param_groups:
                group["initial_lr"] = 0.04


def schedule_of_rank(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
    """Lower rates on higher ranks, from the beginning."""
    rank = detect_rank(environment()).rank
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + rank))
