# SPDX-License-Identifier: Apache-2.0
"""Your own model and data, named in a TOML file by import path: see own_model.toml.

Nothing here knows of ranks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hpc_dl.data.base import Arrays, Data


class Surrogate(nn.Module):
    """A small fully connected network from the state of a pendulum to its state a little later."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 2)
        )

    def forward(self, state: Tensor) -> Tensor:  # (n, 2) -> (n, 2)
        return self.layers(state)


def pendulum(samples: int = 4096, seconds: float = 0.1) -> Data:
    """Random states (angle, angular velocity) and what a hundred small steps of the equation of motion make of them."""
    state = torch.rand(samples, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 4 - 2
    angle, velocity = state.unbind(1)
    for _ in range(100):
        velocity = velocity - torch.sin(angle) * seconds / 100
        angle = angle + velocity * seconds / 100
    inputs, target = state.float(), torch.stack([angle, velocity], dim=1).float()
    held_back = samples // 8
    return Data(Arrays(inputs[held_back:], target[held_back:]), Arrays(inputs[:held_back], target[:held_back]))


def mean_error(output: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error."""
    return (output - target).abs().mean()
