# SPDX-License-Identifier: Apache-2.0
"""Ordinary least squares: the linear model, its closed forms, and why one of them is safer than the other.

    y_hat = X w + b            J(w, b) = 1/m * sum (y_hat - y)^2

Gradient descent finds the minimum step by step; the normal equation finds it in one. With the ones of the bias as last
column of X, theta = (w, b) solves X^T X theta = X^T y. Both X^T X and X^T y are sums over samples, so ranks that hold
different samples need one allreduce of n * (n + 1) numbers and each can solve for itself.
"""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor, nn


class LinearRegression(nn.Module):
    """y_hat = X w + b, to be trained with the mean squared error.

    Args:
        features: n, the number of columns of X.
    """

    def __init__(self, features: int = 10) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(features, 1) / features**0.5)  # "initialise at random"
        self.b = nn.Parameter(torch.zeros(1))

    def forward(self, X: Tensor) -> Tensor:
        """X (m, n) to y_hat (m, 1)."""
        return X @ self.w + self.b

    @property
    def theta(self) -> Tensor:
        """Weights and bias in one column (n + 1, 1), as the closed forms return them."""
        return torch.cat([self.w, self.b[None]]).detach()


def with_ones(X: Tensor) -> Tensor:
    """X (m, n) with a last column of ones (m, n + 1), so that the bias is one more weight."""
    return torch.cat([X, X.new_ones(len(X), 1)], dim=1)


def moments(X: Tensor, y: Tensor) -> Tensor:
    """[X^T X | X^T y], (n, n + 1): a sum over samples, so the sum over ranks is that of all samples."""
    return X.T @ torch.cat([X, y], dim=1)


def is_ill_conditioned(moments: Tensor) -> bool:
    """Whether half the digits of the type or more would be lost: X^T X has the square of X's condition number."""
    return _condition(torch.linalg.eigvalsh(moments[:, :-1])) > _epsilon(moments) ** -0.5


def solve_moments(moments: Tensor) -> Tensor:
    """theta (n, 1) of the normal equation, from the moments of all samples.

    Warns where X^T X is ill-conditioned. Directions that carry nothing but rounding are left out, which gives the
    shortest theta.
    """
    gram, right = moments[:, :-1], moments[:, -1:]
    eigenvalues, vectors = torch.linalg.eigh(gram)  # ascending
    if is_ill_conditioned(moments):
        condition = _condition(eigenvalues)
        warnings.warn(
            f"X^T X is ill-conditioned (condition number {condition:.1e}): the normal equation loses about "
            f"{math.log10(condition):.0f} digits. Drop columns that depend on others, or use solve_triangles",
            stacklevel=2,
        )
    kept = eigenvalues > float(eigenvalues[-1]) * _epsilon(moments) * len(gram)
    theta: Tensor = vectors[:, kept] @ ((vectors[:, kept].T @ right) / eigenvalues[kept, None])
    return theta


def triangle(X: Tensor, y: Tensor) -> Tensor:
    """R of the QR decomposition of [X | y], at most (n + 1, n + 1): all that least squares needs of these samples."""
    return torch.linalg.qr(torch.cat([X, y], dim=1), mode="r").R


def solve_triangles(triangles: list[Tensor]) -> Tensor:
    """theta (n, 1) from the triangles of all ranks, stable: errors grow with X's condition number, not its square.

    The tall-skinny QR: J. Demmel et al., Communication-optimal parallel and sequential QR and LU, 2012.
    """
    stacked = torch.cat(triangles)  # (ranks * (n + 1), n + 1): its least-squares problem has the same solution
    return torch.linalg.lstsq(stacked[:, :-1], stacked[:, -1:], driver="gelsd").solution  # by SVD: any rank of X


def _condition(eigenvalues: Tensor) -> float:
    """Largest over smallest, as far as the type can tell."""
    largest = float(eigenvalues[-1])
    return largest / max(float(eigenvalues[0]), largest * _epsilon(eigenvalues))


def _epsilon(tensor: Tensor) -> float:
    return float(torch.finfo(tensor.dtype).eps)
