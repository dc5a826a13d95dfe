# SPDX-License-Identifier: Apache-2.0
"""Optimizers by name, with weight decay only where it belongs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from hpc_dl.errors import HpcDlError
from hpc_dl.settings import OptimizerSettings
from hpc_dl.training.imports import import_object
from hpc_dl.training.layerwise import Lamb, Lars


def build(model: nn.Module, settings: OptimizerSettings) -> Optimizer:
    """An optimizer for the trainable parameters of a model.

    Raises:
        HpcDlError: There is nothing to train, no such optimizer, or it does not take the options.
    """
    maker, common = OPTIMIZERS.get(settings.name) or (import_object(settings.name, "optimizer.name"), lambda _: {})
    options = {**common(settings), **settings.options}
    groups = decay_groups(model, settings.weight_decay)
    try:
        optimizer = maker(groups, lr=settings.learning_rate, **options)
    except (TypeError, ValueError) as error:
        given = ", ".join(f"{name} = {value!r}" for name, value in options.items()) or "no options"
        raise HpcDlError(
            f"optimizer.name = {settings.name!r} with {given}", str(error), "correct optimizer.options"
        ) from error
    if not isinstance(optimizer, Optimizer):
        raise HpcDlError(
            f"optimizer.name = {settings.name!r}",
            f"it made {type(optimizer).__name__}",
            "name a torch.optim.Optimizer, or a function that returns one",
        )
    return optimizer


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups: matrices and filters decay; biases and one-dimensional (normalisation) parameters do not.

    The usual split for large batches (Goyal et al. 2017, arXiv:1706.02677, section 5.1; You et al. 2019,
    arXiv:1904.00962). Frozen parameters are left out, shared ones counted once.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trainable:
        raise HpcDlError(
            "optimizer", "the model has no trainable parameter", "set requires_grad on what shall be trained"
        )
    decayed = [parameter for parameter in trainable if parameter.ndim > 1]
    spared = [parameter for parameter in trainable if parameter.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": spared, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def set_rates(optimizer: Optimizer, factor: float) -> float:
    """Let every parameter group learn at the rate it was built with, times the factor.

    A group keeps that rate as "initial_lr", as torch's own schedulers have it.

    Returns:
        The rate of the first group.
    """
    for group in optimizer.param_groups:
        if "initial_lr" not in group:
            group["initial_lr"] = float(group["lr"])
        rate = group["initial_lr"] * factor
        if isinstance(group["lr"], Tensor):  # captured in a graph: it must stay the same tensor
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate
    return float(optimizer.param_groups[0]["lr"])


class Moments:
    """An optimizer's state in a checkpoint. Its rate, momentum and decay stay those of the run that loads it.

    Args:
        optimizer: With the options of this run.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer

    def state_dict(self) -> dict[str, Any]:
        return self._optimizer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        groups = self._optimizer.param_groups
        options = [{name: group[name] for name in group if name != "params"} for group in groups]
        self._optimizer.load_state_dict(state)
        for group, kept in zip(self._optimizer.param_groups, options, strict=True):
            group.update(kept)


def _rates(settings: OptimizerSettings) -> dict[str, Any]:
    return {"momentum": settings.momentum}


def _betas(settings: OptimizerSettings) -> dict[str, Any]:
    return {"betas": settings.betas}


OPTIMIZERS: dict[str, tuple[Callable[..., Optimizer], Callable[[OptimizerSettings], dict[str, Any]]]] = {
    "sgd": (torch.optim.SGD, _rates),
    "adam": (torch.optim.Adam, _betas),
    "adamw": (torch.optim.AdamW, _betas),
    "lars": (Lars, _rates),
    "lamb": (Lamb, _betas),
}
"""What makes it, and which settings it takes besides the rate."""
