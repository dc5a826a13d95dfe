# SPDX-License-Identifier: Apache-2.0
"""A deep network of fully connected layers in vectorised notation, with backpropagation layer by layer.

m examples stand side by side as columns, A[0] = X with shape (n[0], m). For the layers l = 1 .. L

    Z[l] = W[l] A[l-1] + B[l]      (n[l], m)      W[l] is (n[l], n[l-1]); B[l] is (n[l], 1), the same for every example
    A[l] = g(Z[l])                 (n[l], m)      g = ReLU, but for the last layer, whose Z[L] goes to the loss

and backwards, with dZ[l] = dJ/dZ[l] and so on:

    dW[l] = dZ[l] A[l-1]^T         dB[l] = sum over examples of dZ[l]
    dA[l-1] = W[l]^T dZ[l]         dZ[l-1] = dA[l-1] * g'(Z[l-1])

J is the mean over examples, so the loss hands in dZ[L] with its 1/m. A batch is one matrix product per layer, which is
what a GPU's matrix units do; `gradient_one_by_one` does the same work example by example and shows the difference.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def forward(X: Tensor, W: Sequence[Tensor], B: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Z[L] (n[L], m), and A[0] .. A[L-1], which the way back needs."""
    A = [X]
    for W_l, B_l in zip(W[:-1], B[:-1], strict=True):
        A.append(torch.relu(W_l @ A[-1] + B_l))
    return W[-1] @ A[-1] + B[-1], A


def backward(dZ: Tensor, A: Sequence[Tensor], W: Sequence[Tensor]) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """dX, and dW[l] and dB[l] of all layers, from dZ[L] (n[L], m)."""
    dW: list[Tensor] = []
    dB: list[Tensor] = []
    for l in reversed(range(len(W))):  # W[l] here is W[l+1] above: Python counts from 0
        dW.insert(0, dZ @ A[l].T)
        dB.insert(0, dZ.sum(1, keepdim=True))
        dA = W[l].T @ dZ
        dZ = dA * (A[l] > 0).to(dA)  # ReLU: g'(Z) is 1 where A > 0; in the last round dA is dX, and dZ goes unused
    return dA, dW, dB


def loss_and_gradient(X: Tensor, y: Tensor, W: Sequence[Tensor], B: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Mean softmax cross-entropy of X (n[0], m) with classes y (m), and its gradient dW[1] .. dW[L], dB[1] .. dB[L].

    For softmax with the negative log-likelihood dZ[L] = (softmax(Z[L]) - one_hot(y)) / m.
    """
    m = X.shape[1]
    Z, A = forward(X, W, B)
    log_p = Z - Z.logsumexp(0)
    dZ = (log_p.exp() - F.one_hot(y, len(Z)).T) / m
    _, dW, dB = backward(dZ, A, W)
    return -log_p[y, torch.arange(m)].mean(), [*dW, *dB]


def gradient_one_by_one(X: Tensor, y: Tensor, W: Sequence[Tensor], B: Sequence[Tensor]) -> list[Tensor]:
    """The gradient of `loss_and_gradient`, summed up example by example: the same numbers, much later."""
    total = [torch.zeros_like(parameter) for parameter in [*W, *B]]
    for i in range(X.shape[1]):
        _, gradient = loss_and_gradient(X[:, i : i + 1], y[i : i + 1], W, B)
        for sum_l, gradient_l in zip(total, gradient, strict=True):
            sum_l += gradient_l / X.shape[1]
    return total


class _ByHand(torch.autograd.Function):
    """The whole network as one function whose derivative is `backward` above."""

    @staticmethod
    def forward(ctx: Any, X: Tensor, *parameters: Tensor) -> Tensor:
        W, B = parameters[: len(parameters) // 2], parameters[len(parameters) // 2 :]
        Z, A = forward(X, W, B)
        ctx.save_for_backward(*A, *W)
        return Z

    @staticmethod
    def backward(ctx: Any, dZ: Tensor) -> tuple[Tensor, ...]:
        L = len(ctx.saved_tensors) // 2
        dX, dW, dB = backward(dZ, ctx.saved_tensors[:L], ctx.saved_tensors[L:])
        return dX, *dW, *dB


class Mlp(nn.Module):
    """Logits of classes; train it with `torch.nn.functional.cross_entropy`.

    Args:
        widths: n[0], n[1], .. n[L].
        by_hand: Backpropagation as written above; False leaves it to autograd.
    """

    def __init__(self, widths: Sequence[int] = (64, 128, 64, 10), by_hand: bool = True) -> None:
        super().__init__()
        pairs = list(itertools.pairwise(widths))
        # He et al., Delving deep into rectifiers, 2015: variance 2 / n[l-1] keeps the size of A from layer to layer.
        self.W = nn.ParameterList(torch.randn(n, before) * (2 / before) ** 0.5 for before, n in pairs)
        self.B = nn.ParameterList(torch.zeros(n, 1) for _, n in pairs)
        self.by_hand = by_hand

    def forward(self, x: Tensor) -> Tensor:
        """x (m, n[0]), examples as rows as torch has them, to logits (m, n[L])."""
        X, W, B = x.T, list(self.W), list(self.B)
        Z = _ByHand.apply(X, *W, *B) if self.by_hand else forward(X, W, B)[0]
        return Z.T
