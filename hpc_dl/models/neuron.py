# SPDX-License-Identifier: Apache-2.0
"""One neuron, forward and backward, every derivative written out.

    z = x w + b                weighted sum              dL/dw = x^T dL/dz,  dL/db = sum dL/dz,  dL/dx = dL/dz w^T
    a = g(z)                   activation                dL/dz = dL/da * g'(z)
    L = loss(a, y)             loss                      dL/da

Each link is an `autograd.Function`: `forward` is the formula on the left, `backward` the one on the right. Chained,
they are backpropagation; `Neuron(by_hand=False)` leaves the derivatives to autograd, for comparison.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Function = Callable[[Tensor], Tensor]
SLOPE = 0.01  # of the leaky ReLU below zero

# name: (g, g'). The first three saturate (g' goes to 0 for large |z|, so learning stalls), the last three do not.
ACTIVATIONS: dict[str, tuple[Function, Function]] = {
    "step": (lambda z: (z > 0).to(z) + 0 * z, torch.zeros_like),  # perceptron; 0 * z keeps autograd's graph
    "sigmoid": (torch.sigmoid, lambda z: torch.sigmoid(z) * torch.sigmoid(-z)),
    "tanh": (torch.tanh, lambda z: 1 - torch.tanh(z) ** 2),
    "relu": (torch.relu, lambda z: (z > 0).to(z)),
    "leaky_relu": (lambda z: F.leaky_relu(z, SLOPE), lambda z: torch.where(z > 0, 1.0, SLOPE).to(z)),
    "elu": (F.elu, lambda z: torch.where(z > 0, 0 * z, z).exp()),  # e^z below zero, 1 above
}


class WeightedSum(torch.autograd.Function):
    """z = x w + b of m samples at once; x (m, n), w (n, 1), b (1), z (m, 1)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(x, w)
        return x @ w + b

    @staticmethod
    def backward(ctx: Any, dL_dz: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, w = ctx.saved_tensors
        return dL_dz @ w.T, x.T @ dL_dz, dL_dz.sum(0)  # dL/dx, dL/dw, dL/db


class Activation(torch.autograd.Function):
    """a = g(z), point by point."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, name: str) -> Tensor:
        ctx.save_for_backward(z)
        ctx.derivative = ACTIVATIONS[name][1]
        return ACTIVATIONS[name][0](z)

    @staticmethod
    def backward(ctx: Any, dL_da: Tensor) -> tuple[Tensor, None]:
        (z,) = ctx.saved_tensors
        return dL_da * ctx.derivative(z), None


class CrossEntropy(torch.autograd.Function):
    """Mean of L = -(y log a + (1 - y) log(1 - a)) with a = sigmoid(z), written in z so that nothing overflows.

    With log a = -log(1 + e^-z) it becomes L = max(z, 0) - y z + log(1 + e^-|z|), and dL/dz = a - y: the derivative of
    the sigmoid cancels, so a saturated neuron that is wrong still learns.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, y: Tensor) -> Tensor:
        ctx.save_for_backward(z, y)
        return (z.clamp(min=0) - y * z + torch.log1p(torch.exp(-z.abs()))).mean()

    @staticmethod
    def backward(ctx: Any, dJ: Tensor) -> tuple[Tensor, None]:
        z, y = ctx.saved_tensors
        return dJ * (torch.sigmoid(z) - y) / z.numel(), None


def cross_entropy(z: Tensor, y: Tensor) -> Tensor:
    """Binary cross-entropy of the neuron's weighted sum z (m, 1) and labels y of 0 and 1 (m, 1), by hand."""
    loss: Tensor = CrossEntropy.apply(z, y)
    return loss


class Neuron(nn.Module):
    """One neuron.

    Args:
        features: n, the number of inputs.
        activation: A name of `ACTIVATIONS`; "" returns the weighted sum z, which `cross_entropy` takes.
        by_hand: Derivatives as written above; False leaves them to autograd.
    """

    def __init__(self, features: int = 30, activation: str = "", by_hand: bool = True) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(features, 1) / features**0.5)
        self.b = nn.Parameter(torch.zeros(1))
        self.activation, self.by_hand = activation, by_hand

    def forward(self, x: Tensor) -> Tensor:
        """x (m, n) to a (m, 1), or to z (m, 1) without an activation."""
        z = WeightedSum.apply(x, self.w, self.b) if self.by_hand else x @ self.w + self.b
        if not self.activation:
            return z
        return Activation.apply(z, self.activation) if self.by_hand else ACTIVATIONS[self.activation][0](z)
