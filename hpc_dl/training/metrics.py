# SPDX-License-Identifier: Apache-2.0
"""Metrics of an evaluation: each a mean over the samples of a batch, averaged over all ranks by sample count."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from hpc_dl.training.imports import import_object

Metric = Callable[[Tensor, Tensor], Tensor]


def accuracy(output: Tensor, target: Tensor) -> Tensor:
    """Fraction of samples whose largest output is the target class. output: (n, classes); target: (n,)."""
    return (output.argmax(dim=1) == target).double().mean()


def binary_accuracy(output: Tensor, target: Tensor) -> Tensor:
    """Fraction of samples on the right side of zero. output: logits (n, ...); target: 0 or 1, same shape."""
    return ((output > 0) == (target > 0.5)).double().mean()


METRICS: dict[str, Metric] = {"accuracy": accuracy, "binary_accuracy": binary_accuracy}


def find(name: str) -> Metric:
    """The metric of a name in `METRICS`, or of an import path."""
    metric: Metric = METRICS[name] if name in METRICS else import_object(name, "task.metrics", METRICS)
    return metric
