# SPDX-License-Identifier: Apache-2.0
"""Optimizers against an independent reference: the papers' formulas, written out in NumPy."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from hpc_dl.errors import HpcDlError
from hpc_dl.settings import OptimizerSettings
from hpc_dl.training.optimizers import build

Array = np.ndarray[Any, np.dtype[np.float64]]
STEPS = 7


def lars(w: Array, gradients: list[Array], s: OptimizerSettings) -> Array:
    """arXiv:1708.03888, algorithm 1, eta = 0.001; one-dimensional tensors: SGD without decay."""
    v = np.zeros_like(w)
    for g in gradients:
        if w.ndim > 1:
            norm_w = np.sqrt((w**2).sum())
            trust = 0.001 * norm_w / (np.sqrt((g**2).sum()) + s.weight_decay * norm_w) if norm_w > 0 else 1.0
            g = trust * (g + s.weight_decay * w)
        v = s.momentum * v + g
        w = w - s.learning_rate * v
    return w


def lamb(w: Array, gradients: list[Array], s: OptimizerSettings) -> Array:
    """arXiv:1904.00962, algorithm 2; one-dimensional tensors: Adam without decay."""
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(gradients, start=1):
        m = s.betas[0] * m + (1 - s.betas[0]) * g
        v = s.betas[1] * v + (1 - s.betas[1]) * g**2
        r = (m / (1 - s.betas[0] ** t)) / (np.sqrt(v / (1 - s.betas[1] ** t)) + 1e-6)
        if w.ndim > 1:
            r = r + s.weight_decay * w
            norm_w, norm_r = np.sqrt((w**2).sum()), np.sqrt((r**2).sum())
            r = r * (norm_w / norm_r if norm_w > 0 and norm_r > 0 else 1.0)
        w = w - s.learning_rate * r
    return w


def sgd(w: Array, gradients: list[Array], s: OptimizerSettings) -> Array:
    v = np.zeros_like(w)
    for g in gradients:
        v = s.momentum * v + g + (s.weight_decay * w if w.ndim > 1 else 0.0)
        w = w - s.learning_rate * v
    return w


def adamw(w: Array, gradients: list[Array], s: OptimizerSettings) -> Array:
    """arXiv:1711.05101, algorithm 2, with the decay times the rate as in torch."""
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(gradients, start=1):
        m = s.betas[0] * m + (1 - s.betas[0]) * g
        v = s.betas[1] * v + (1 - s.betas[1]) * g**2
        decay = s.weight_decay if w.ndim > 1 else 0.0
        step = (m / (1 - s.betas[0] ** t)) / (np.sqrt(v / (1 - s.betas[1] ** t)) + 1e-8)
        w = w - s.learning_rate * (step + decay * w)
    return w


@pytest.mark.parametrize("reference", [lars, lamb, sgd, adamw], ids=lambda f: f.__name__)
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_against_the_paper(reference: Callable[..., Array], weight_decay: float) -> None:
    settings = OptimizerSettings(reference.__name__, 0.3, 0.8, (0.7, 0.9), weight_decay)  # type: ignore[arg-type]
    torch.manual_seed(3)
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Linear(4, 5)).double()
    model = model.to(memory_format=torch.channels_last)
    nn.init.zeros_(model[2].weight)  # a zero tensor has no direction: its trust ratio is 1
    gradients = [[torch.randn_like(p) for p in model.parameters()] for _ in range(STEPS)]
    expected = [
        reference(p.detach().numpy().copy(), [row[k].numpy() for row in gradients], settings)
        for k, p in enumerate(model.parameters())
    ]
    optimizer = build(model, settings)
    for row in gradients:
        for p, g in zip(model.parameters(), row, strict=True):
            p.grad = g.clone()
        optimizer.step()
        assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), row, strict=True))  # type: ignore[arg-type]
    for p, w in zip(model.parameters(), expected, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), w, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "lars", "lamb"])
def test_state_continues_where_it_was_saved(name: str) -> None:
    def run(model: nn.Module, optimizer: torch.optim.Optimizer, first: int, last: int) -> None:
        for step in range(first, last):
            torch.manual_seed(step)
            optimizer.zero_grad()
            model(torch.randn(4, 3)).square().mean().backward()
            optimizer.step()

    settings = OptimizerSettings(name, 0.05, weight_decay=0.01)  # type: ignore[arg-type]
    torch.manual_seed(0)
    whole = nn.Linear(3, 2)
    half = nn.Linear(3, 2)
    half.load_state_dict(whole.state_dict())
    run(whole, build(whole, settings), 0, 6)
    first = build(half, settings)
    run(half, first, 0, 3)
    second = build(half, settings)
    second.load_state_dict(first.state_dict())
    run(half, second, 3, 6)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), half.parameters(), strict=True))


def test_parameters_without_a_gradient_stay() -> None:
    for name in ("lars", "lamb"):
        model = nn.Linear(3, 2)
        before = [p.clone() for p in model.parameters()]
        build(model, OptimizerSettings(name)).step()  # type: ignore[arg-type]
        assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_frozen_parameters_are_left_out_and_biases_not_decayed() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3), nn.Linear(3, 3))
    model[0].requires_grad_(False)
    decayed, spared = build(model, OptimizerSettings("sgd", weight_decay=0.1)).param_groups
    assert [tuple(p.shape) for p in decayed["params"]] == [(3, 3)]
    assert [p.ndim for p in spared["params"]] == [1, 1, 1]
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)


def test_a_model_with_nothing_to_train_is_refused() -> None:
    with pytest.raises(HpcDlError, match="no trainable parameter"):
        build(nn.ReLU(), OptimizerSettings())


def test_an_optimizer_of_ones_own_comes_by_import_path_with_its_options() -> None:
    options = {"lr_decay": 0.1, "eps": 1e-6}
    own = OptimizerSettings("torch.optim:Adagrad", learning_rate=0.3, weight_decay=0.2, options=options)
    optimizer = build(nn.Linear(2, 2), own)
    assert type(optimizer) is torch.optim.Adagrad
    decayed, spared = optimizer.param_groups
    assert (decayed["lr"], decayed["lr_decay"], decayed["eps"], decayed["weight_decay"]) == (0.3, 0.1, 1e-6, 0.2)
    assert spared["weight_decay"] == 0


def test_named_optimizers_take_options_before_other_settings() -> None:
    settings = OptimizerSettings("sgd", momentum=0.5, options={"nesterov": True, "momentum": 0.8})
    (group,) = build(nn.Linear(2, 2, bias=False), settings).param_groups
    assert group["nesterov"]
    assert group["momentum"] == 0.8


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("adam", {"nesterov": True}, "nesterov = True.*unexpected keyword"),
        ("sgd", {"nesterov": True, "momentum": 0.0}, "momentum"),
        ("torch.optim:Adagradd", {}, "torch.optim has no Adagradd"),
        ("torch:zeros", {}, "correct optimizer.options"),
        ("builtins:dict", {"rows": 1}, "it made dict"),
    ],
)
def test_what_is_no_optimizer_or_option_is_refused(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(HpcDlError, match=f"(?s){words}"):
        build(nn.Linear(2, 2), OptimizerSettings(name, options=options))


def test_a_mistyped_name_is_refused_with_the_next_one() -> None:
    with pytest.raises(HpcDlError, match="did you mean adam"):
        OptimizerSettings("adamm")
