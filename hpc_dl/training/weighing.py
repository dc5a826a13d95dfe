# SPDX-License-Identifier: Apache-2.0
"""What torch's losses over classes are means over: the targets that count.

cross_entropy and nll_loss leave out targets that are ignored, and each of the others counts as much as its class does.
A mean of such means over ranks is not the mean over the global batch, unless each has its weight.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

MODULES = (nn.CrossEntropyLoss, nn.NLLLoss)
FUNCTIONS = (functional.cross_entropy, functional.nll_loss)
IGNORED = -100
"""Class of targets that these losses leave out unless told otherwise (torch's documentation of CrossEntropyLoss)."""


@dataclass(frozen=True)
class OverClasses:
    """The weight of targets under a loss over classes."""

    class_weights: Tensor | None
    ignored: int

    def of(self, target: Tensor) -> Tensor:
        """Weight of each sample's targets: (n, ...) -> (n,), whole numbers or float64."""
        weights = target != self.ignored
        if self.class_weights is not None:
            by_class = self.class_weights.detach().to(target.device, torch.float64)
            weights = by_class[target.where(weights, 0)] * weights
        return weights if weights.dim() == 1 else weights.flatten(1).sum(1)


def over_classes(loss: Any, target: Any) -> OverClasses | None:
    """How a loss weighs such targets, where that is other than by samples and known; targets stay where they are."""
    options = _options(loss)
    if options is None or options.get("reduction", "mean") != "mean":
        return None
    if not isinstance(target, Tensor) or target.is_floating_point():  # probabilities: a mean over samples
        return None
    return OverClasses(options.get("weight"), options.get("ignore_index", IGNORED))


def _options(loss: Any) -> dict[str, Any] | None:
    if type(loss) in MODULES:
        return {name: getattr(loss, name) for name in ("weight", "ignore_index", "reduction")}
    if isinstance(loss, functools.partial):
        return dict(loss.keywords) if loss.func in FUNCTIONS and not loss.args else None
    return {} if any(loss is function for function in FUNCTIONS) else None
