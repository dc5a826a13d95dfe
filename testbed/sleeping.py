# SPDX-License-Identifier: Apache-2.0
"""Models that sleep instead of computing: the gradients of a real network, in its order and at its pace, without a CPU.

Compute takes no processor, so eight hosts fit on two cores with honest timing. Shapes are those of ResNet-50, VGG-16
and a GPT of 12 layers: parameters and multiply-adds per block as in the papers (He 2015, table 1; Simonyan 2014,
table 1; Radford 2019), all bytes divided by `shrink` so that computing and sending stand to each other as they do on a
supercomputer.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor, nn

from hpc_dl.data.base import Data
from hpc_dl.data.synthetic import Repeated

RESNET50 = (
    [(9_536, 0.118)]
    + [(72_000, 0.227)] * 3
    + [(305_000, 0.26)] * 4
    + [(1_183_000, 0.245)] * 6
    + [(4_988_000, 0.27)] * 3
    + [(2_049_000, 0.002)]
)
VGG16 = [
    *[(1_792, 0.087), (36_928, 1.85), (73_856, 0.925), (147_584, 1.85), (295_168, 0.925), (590_080, 1.85)],
    *[(590_080, 1.85), (1_180_160, 0.925), (2_359_808, 1.85), (2_359_808, 1.85)],
    *[(2_359_808, 0.462), (2_359_808, 0.462), (2_359_808, 0.462)],
    *[(102_764_544, 0.103), (16_781_312, 0.017), (4_097_000, 0.004)],
]
GPT = [(39_383_808, 0.0), *[(7_087_872, 1.0)] * 12, (1_536, 5.4)]
"""Embedding (tied with the head, so its gradient comes last), layers, final norm with the head's multiply-adds."""
SHAPES = {"resnet50": RESNET50, "vgg16": VGG16, "gpt": GPT}
"""(parameters, multiply-adds in any unit) of each block, in order of forward."""


class _Sleep(torch.autograd.Function):
    """Passes values through, sleeping before; backward sleeps as well and hands out a gradient of ones."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, parameter: Tensor, forward_seconds: float, backward_seconds: float) -> Tensor:
        time.sleep(forward_seconds)
        ctx.backward_seconds, ctx.shape = backward_seconds, parameter.shape
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        time.sleep(ctx.backward_seconds)
        return gradient, torch.ones(ctx.shape), None, None


class Sleeper(nn.Module):
    """A network of sleeping blocks.

    Args:
        shape: One of `SHAPES`.
        step_seconds: Of forward and backward together on one rank; backward takes twice as long as forward.
        shrink: Divisor of all parameter counts.
    """

    def __init__(self, shape: str = "resnet50", step_seconds: float = 0.3, shrink: float = 160.0) -> None:
        super().__init__()
        blocks = SHAPES[shape]
        work = sum(amount for _, amount in blocks)
        self.blocks = nn.ParameterList(nn.Parameter(torch.zeros(max(1, int(n / shrink)))) for n, _ in blocks)
        self.seconds = [step_seconds * amount / work for _, amount in blocks]

    def forward(self, x: Tensor) -> Tensor:
        """x: (m, 1) -> (m, 1)."""
        x = x.requires_grad_() if torch.is_grad_enabled() else x
        for parameter, seconds in zip(self.blocks, self.seconds, strict=True):
            x = _Sleep.apply(x, parameter, seconds / 3, 2 * seconds / 3)
        return x


def loss(output: Tensor, target: Tensor) -> Tensor:
    """Anything with a gradient."""
    return (output - target).mean()


def data(samples: int = 100_000) -> Data:
    """Samples that cost nothing."""

    def make(count: int) -> tuple[Tensor, Tensor]:
        return torch.zeros(count, 1), torch.zeros(count, 1)

    return Data(Repeated(make, samples), Repeated(make, 1))
