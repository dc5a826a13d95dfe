# SPDX-License-Identifier: Apache-2.0
"""Metrics of an evaluation: sums over all samples of all ranks first, quotients afterwards.

A metric is one of three things:

- a function of output and target that returns the mean over the samples it is given;
- one that returns such a mean and what it is a mean over, as (mean, weight): tokens that count, pixels of a class;
- an object with `update(output, target)`, `compute()` and `reset()` whose state are sums: whatever numbers and tensors
  `reset` sets back are added up over ranks before `compute`.

Which of the first two a function is, and whether it is a mean at all, is tried out before training begins.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

from hpc_dl.errors import HpcDlError
from hpc_dl.training.imports import import_object
from hpc_dl.training.tallies import Metric


def accuracy(output: Tensor, target: Tensor) -> Tensor:
    """Fraction of samples whose largest output is the target class. output: (n, classes); target: (n,)."""
    return (output.argmax(dim=1) == target).double().mean()


def binary_accuracy(output: Tensor, target: Tensor) -> Tensor:
    """Fraction of samples on the right side of zero. output: logits (n, ...); target: 0 or 1, same shape."""
    return ((output > 0) == (target > 0.5)).double().mean()


METRICS: dict[str, Metric] = {"accuracy": accuracy, "binary_accuracy": binary_accuracy}


def find(paths: Iterable[str]) -> dict[str, Metric]:
    """Metrics by the names they go by in the log: those in `METRICS`, or import paths without their module.

    A class is called for an object. Two of one name keep their modules.
    """
    paths = list(paths)
    short = [path.rpartition(":")[2] for path in paths]
    found = {}
    for path, name in zip(paths, short, strict=True):
        metric = METRICS[path] if path in METRICS else import_object(path, "task.metrics", METRICS)
        found[name if short.count(name) == 1 else path] = metric() if isinstance(metric, type) else metric
    return found


def refuse_what_cannot_be_added(name: str, differences: Mapping[str, str]) -> None:
    """A metric of some samples must follow from the sums over parts of them, or it would depend on the number of ranks.

    Args:
        name: As in task.metrics.
        differences: As `what_cannot_be_added` has found them.

    Raises:
        HpcDlError: There is one.
    """
    for difference in differences.values():
        raise HpcDlError(
            f"metric {name!r}",
            f"{difference}: it is no mean over samples, so it would depend on the number of ranks",
            "return (mean, weight) where it is a mean over something else, such as tokens; else give an object with "
            "update, compute and reset, whose state are sums (docs/train.md)",
        )
