# SPDX-License-Identifier: Apache-2.0
"""The largest difference between two trainings, and where it is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hpc_dl.runlog.records import Run

SAME = 1e-10
"""Between trainings in float64 that sum in another order: absolute, and of a tensor with numbers above 1, relative."""


@dataclass(frozen=True)
class Largest:
    """A difference and where it was found."""

    value: float = 0.0
    where: str = ""

    def __or__(self, other: Largest) -> Largest:
        return other if other.value > self.value else self


def between(mine: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> Largest:
    """The largest between tensors of the same name; infinite where names, shapes or kinds of numbers differ."""
    if set(mine) != set(theirs):
        return Largest(math.inf, ", ".join(sorted(set(mine) ^ set(theirs))))
    found = Largest()
    for name, value in mine.items():
        found |= Largest(_apart(value, theirs[name]), name)
    return found


def of_losses(mine: Run, theirs: Run) -> Largest:
    """The largest between the losses of the logs' windows."""
    if len(mine.windows) != len(theirs.windows):
        return Largest(math.inf, f"{len(mine.windows)} and {len(theirs.windows)} windows")
    found = Largest()
    for window, other in zip(mine.windows, theirs.windows, strict=True):
        loss, expected = (math.nan if record.loss is None else record.loss for record in (window, other))
        apart = abs(loss - expected) / max(1.0, abs(expected))
        found |= Largest(apart, f"the loss of step {window.first_step}")
    return found


def states_apart(mine: Any, theirs: Any, where: str = "") -> Largest:
    """The largest between two trees of states; infinite where they are not alike."""
    if isinstance(mine, Tensor) and isinstance(theirs, Tensor):
        if mine.shape == theirs.shape and torch.equal(mine, theirs):
            return Largest()
        return Largest(max(_apart(mine, theirs), math.ulp(0.0)), where)
    if isinstance(mine, Mapping) and isinstance(theirs, Mapping) and set(mine) == set(theirs):
        return _largest(states_apart(mine[key], theirs[key], f"{where}.{key}".lstrip(".")) for key in mine)
    if isinstance(mine, list | tuple) and isinstance(theirs, list | tuple) and len(mine) == len(theirs):
        pairs = enumerate(zip(mine, theirs, strict=True))
        return _largest(states_apart(one, other, f"{where}.{number}") for number, (one, other) in pairs)
    both_nan = isinstance(mine, float) and isinstance(theirs, float) and math.isnan(mine) and math.isnan(theirs)
    return Largest() if both_nan or mine == theirs else Largest(math.inf, where)


def _largest(found: Iterator[Largest]) -> Largest:
    result = Largest()
    for one in found:
        result |= one
    return result


def _apart(mine: Tensor, theirs: Tensor) -> float:
    if mine.shape != theirs.shape:
        return math.inf
    if not mine.numel():
        return 0.0
    kind = torch.complex128 if mine.is_complex() or theirs.is_complex() else torch.float64
    mine, theirs = mine.to(kind), theirs.to(kind)
    if torch.equal(mine.isfinite(), theirs.isfinite()) and not bool(mine.isfinite().all()):  # masks of -inf
        mine, theirs = mine[mine.isfinite()], theirs[theirs.isfinite()]
        if not mine.numel():
            return 0.0
    apart = float((mine - theirs).abs().max()) / max(1.0, float(theirs.abs().max()))
    return math.inf if math.isnan(apart) else apart
