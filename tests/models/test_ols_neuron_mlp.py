# SPDX-License-Identifier: Apache-2.0
"""Closed forms against numpy, hand-written derivatives against autograd."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hpc_dl.models import mlp, ols
from hpc_dl.models.neuron import ACTIVATIONS, Neuron, cross_entropy

TOLERANCE = {"rtol": 1e-10, "atol": 1e-10}


@pytest.fixture(autouse=True)
def double() -> object:
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


def table(m: int = 60, n: int = 5) -> tuple[Tensor, Tensor]:
    X = torch.randn(m, n)
    return X, X @ torch.randn(n, 1) + 0.5 + 0.1 * torch.randn(m, 1)


def by_numpy(X: Tensor, y: Tensor) -> Tensor:
    return torch.from_numpy(np.linalg.lstsq(X.numpy(), y.numpy(), rcond=None)[0])


@pytest.mark.parametrize("ranks", [1, 3])
def test_closed_forms_are_least_squares_however_the_samples_are_spread(ranks: int) -> None:
    X, y = table()
    X = ols.with_ones(X)
    parts = list(zip(X.tensor_split(ranks), y.tensor_split(ranks), strict=True))
    normal = ols.solve_moments(sum(ols.moments(*part) for part in parts))  # type: ignore[arg-type]
    triangular = ols.solve_triangles([ols.triangle(*part) for part in parts])
    torch.testing.assert_close(normal, by_numpy(X, y), **TOLERANCE)
    torch.testing.assert_close(triangular, by_numpy(X, y), **TOLERANCE)


def test_ill_conditioned_columns_are_named_and_solved_stably() -> None:
    """Columns that differ by 1e-6: the condition number of X is about 1e6, that of X^T X about 1e12."""
    X, _ = table(200, 4)
    X[:, 3] = X[:, 2] + 1e-6 * X[:, 3]
    theta = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    y = X @ theta
    with pytest.warns(UserWarning, match=r"ill-conditioned \(condition number .*e\+1[123]\).*solve_triangles"):
        normal = ols.solve_moments(ols.moments(X, y))
    stable = ols.solve_triangles([ols.triangle(*part) for part in zip(X.split(50), y.split(50), strict=True)])
    assert float((stable - theta).abs().max()) < 1e-8
    assert float((normal - theta).abs().max()) > 10 * float((stable - theta).abs().max())


def test_dependent_columns_give_the_shortest_solution() -> None:
    X, y = table(50, 3)
    X = torch.cat([X, X[:, :1]], dim=1)
    with pytest.warns(UserWarning, match="ill-conditioned"):
        normal = ols.solve_moments(ols.moments(X, y))
    torch.testing.assert_close(normal, by_numpy(X, y), rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(ols.solve_triangles([ols.triangle(X, y)]), by_numpy(X, y), **TOLERANCE)


def test_well_conditioned_columns_give_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ols.solve_moments(ols.moments(*table()))


def gradients(model: nn.Module, loss: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(model.parameters())))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_neuron_by_hand_equals_autograd(activation: str) -> None:
    by_hand = Neuron(7, activation)
    by_autograd = Neuron(7, activation, by_hand=False)
    by_autograd.load_state_dict(by_hand.state_dict())
    x, y = 2 * torch.randn(40, 7), torch.rand(40, 1)
    x.requires_grad_()
    losses = [F.mse_loss(model(x), y) for model in (by_hand, by_autograd)]
    torch.testing.assert_close(losses[0], losses[1], **TOLERANCE)
    with_x = [torch.autograd.grad(loss, x, retain_graph=True)[0] for loss in losses]
    torch.testing.assert_close(with_x[0], with_x[1], **TOLERANCE)
    for hand, auto in zip(gradients(by_hand, losses[0]), gradients(by_autograd, losses[1]), strict=True):
        torch.testing.assert_close(hand, auto, **TOLERANCE)


@pytest.mark.parametrize("activation", [name for name in ACTIVATIONS if name != "step"])
def test_activation_derivatives_equal_differences(activation: str) -> None:
    """An independent reference: central differences, away from the kink at 0."""
    g, derivative = ACTIVATIONS[activation]
    z, h = torch.linspace(-4, 4, 80), 1e-6
    torch.testing.assert_close(derivative(z), (g(z + h) - g(z - h)) / (2 * h), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("size", [1.0, 1000.0])
def test_cross_entropy_equals_torch_and_never_overflows(size: float) -> None:
    z = (size * torch.randn(50, 1)).requires_grad_()
    y = torch.randint(2, (50, 1)).double()
    ours, theirs = cross_entropy(z, y), F.binary_cross_entropy_with_logits(z, y)
    torch.testing.assert_close(ours, theirs, **TOLERANCE)
    torch.testing.assert_close(torch.autograd.grad(ours, z), torch.autograd.grad(theirs, z), **TOLERANCE)
    assert ours.isfinite()


def test_mlp_by_hand_equals_autograd() -> None:
    by_hand, by_autograd = mlp.Mlp((6, 9, 8, 4)), mlp.Mlp((6, 9, 8, 4), by_hand=False)
    by_autograd.load_state_dict(by_hand.state_dict())
    x, y = torch.randn(30, 6, requires_grad=True), torch.randint(4, (30,))
    losses = [F.cross_entropy(model(x), y) for model in (by_hand, by_autograd)]
    with_x = [torch.autograd.grad(loss, x, retain_graph=True)[0] for loss in losses]
    torch.testing.assert_close(with_x[0], with_x[1], **TOLERANCE)
    for hand, auto in zip(gradients(by_hand, losses[0]), gradients(by_autograd, losses[1]), strict=True):
        torch.testing.assert_close(hand, auto, **TOLERANCE)


def test_mlp_loss_and_gradient_equal_torch_and_the_sum_of_examples() -> None:
    model = mlp.Mlp((6, 9, 8, 4), by_hand=False)
    x, y = torch.randn(30, 6), torch.randint(4, (30,))
    W, B = list(model.W), list(model.B)
    with torch.no_grad():
        loss, gradient = mlp.loss_and_gradient(x.T, y, W, B)
        one_by_one = mlp.gradient_one_by_one(x.T, y, W, B)
    theirs = F.cross_entropy(model(x), y)
    torch.testing.assert_close(loss, theirs, **TOLERANCE)
    for ours, single, reference in zip(gradient, one_by_one, gradients(model, theirs), strict=True):
        torch.testing.assert_close(ours, reference, **TOLERANCE)
        torch.testing.assert_close(single, reference, **TOLERANCE)
