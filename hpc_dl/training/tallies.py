# SPDX-License-Identifier: Apache-2.0
"""Sums of a metric over some batches, which those of other ranks can be added to, and whether that gives the metric."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from hpc_dl.comm.base import Engine
from hpc_dl.errors import HpcDlError
from hpc_dl.training.objective import LOSS, found, mean_and_weight
from hpc_dl.training.weighing import over_classes

Metric = Any
"""A function or object as in `metrics.py`."""
Arguments = tuple[Any, Any, int]
"""What a metric is called with, and the number of samples."""
TOLERANCE = 1e-4
"""Between a metric of some samples and the same from parts of them: rounding in float32, and far below what a root of a
mean is off."""
MARK = 113
MARKS = {int: MARK, float: float(MARK), list: [MARK]}
"""Written over a metric's attributes to see which of them `reset` sets back."""


class Tally(Protocol):
    """A metric's sums over some batches."""

    def add(self, output: Any, target: Any, samples: int) -> None:
        """Take in a batch."""

    def sums(self) -> Tensor:
        """Everything the metric has added up: a vector in float64, as long on every rank."""

    def values(self, name: str, sums: Tensor) -> dict[str, float]:
        """The metric of these sums, which may be those of several ranks, under its name in the log."""


class MeanTally:
    """Of a function."""

    def __init__(self, function: Callable[[Any, Any], Any]) -> None:
        self._function = function
        self._sums = torch.zeros(2, dtype=torch.float64)

    def add(self, output: Any, target: Any, samples: int) -> None:
        result = self._function(output, target)
        mean, weight = mean_and_weight(result)
        mean = mean.detach() if isinstance(mean, Tensor) else mean
        if weight is None:
            known = over_classes(self._function, target)
            weight = samples if known is None else known.of(target).sum()
        if float(weight):  # a mean over nothing is no number
            self._sums += torch.tensor([float(mean), 1.0], dtype=torch.float64) * float(weight)

    def sums(self) -> Tensor:
        return self._sums

    def values(self, name: str, sums: Tensor) -> dict[str, float]:
        total, weight = sums.tolist()
        return {name: total / weight if weight else float("nan")}


@dataclass(frozen=True)
class Terms:
    """An objective as a metric: its loss and named terms."""

    function: Callable[[Any, Any], Any]
    names: Sequence[str]
    """Which of them; the loss is "loss"."""


class TermsTally:
    """Of an objective's terms."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._sums = torch.zeros(1 + len(terms.names), dtype=torch.float64)

    def add(self, model: Any, batch: Any, samples: int) -> None:
        loss, weight, terms = found(self._terms.function(model, batch))
        weight = float(samples if weight is None else weight)
        if weight:
            means = [float({LOSS: loss, **terms}[name]) for name in self._terms.names]
            self._sums += torch.tensor([1.0, *means], dtype=torch.float64) * weight

    def sums(self) -> Tensor:
        return self._sums

    def values(self, name: str, sums: Tensor) -> dict[str, float]:
        weight, *totals = sums.tolist()
        means = [total / weight if weight else float("nan") for total in totals]
        return dict(zip(self._terms.names, means, strict=True))


class ObjectTally:
    """Of an object; works on a copy of it."""

    def __init__(self, metric: Any) -> None:
        self._metric = copy.deepcopy(metric)
        self._names = _set_back(self._metric)

    def add(self, output: Any, target: Any, samples: int) -> None:
        self._metric.update(output, target)

    def sums(self) -> Tensor:
        parts = [torch.as_tensor(getattr(self._metric, name)).reshape(-1) for name in self._names]
        return torch.cat([torch.zeros(0), *(part.detach().cpu() for part in parts)]).double()

    def values(self, name: str, sums: Tensor) -> dict[str, float]:
        state = [getattr(self._metric, name) for name in self._names]
        lengths = [torch.as_tensor(mine).numel() for mine in state]
        for attribute, mine, part in zip(self._names, state, sums.split(lengths), strict=True):
            setattr(self._metric, attribute, _like(mine, part))
        return {name: float(self._metric.compute())}


def tally(metric: Metric) -> Tally:
    """Nothing counted yet."""
    if isinstance(metric, Terms):
        return TermsTally(metric)
    return ObjectTally(metric) if hasattr(metric, "update") else MeanTally(metric)


def over_ranks(tallies: Mapping[str, Tally], samples: int, engine: Engine) -> tuple[dict[str, float], int]:
    """The metrics of all ranks' samples, and their number. All ranks call it; one collective."""
    parts = [one.sums() for one in tallies.values()]
    together = engine.reduce(torch.cat([*parts, torch.tensor([float(samples)])]).double(), "sum", "evaluation")
    *sums, counted = together.split([*map(len, parts), 1])
    values: dict[str, float] = {}
    for (name, one), part in zip(tallies.items(), sums, strict=True):
        values |= one.values(name, part)
    return values, round(float(counted))


def what_cannot_be_added(
    metric: Metric, whole: Arguments, parts: Sequence[Arguments], tolerance: float = TOLERANCE
) -> dict[str, str]:
    """How a metric of some samples differs from the same put together from parts of them, by the name of the term;
    empty if it does not."""
    expected, found = _added_up(metric, [whole]), _added_up(metric, parts)
    sizes = " and ".join(str(samples) for _, _, samples in parts)
    return {
        name: f"of {whole[2]} samples it is {value:.6g}, put together from {sizes} of them {found[name]:.6g}"
        for name, value in expected.items()
        if not math.isnan(value) and not math.isclose(value, found[name], rel_tol=tolerance, abs_tol=1e-6)
    }


def _added_up(metric: Metric, parts: Sequence[Arguments]) -> dict[str, float]:
    """The metric of several ranks, each with one of the parts."""
    tallies = [tally(metric) for _ in parts]
    for one, arguments in zip(tallies, parts, strict=True):
        one.add(*arguments)
    return tallies[0].values("", torch.stack([one.sums() for one in tallies]).sum(0))


def _set_back(metric: Any) -> list[str]:
    """Reset a metric, and see which of its numbers and tensors that sets back: they are its state."""
    metric.reset()
    attributes = {**vars(metric), **getattr(metric, "_buffers", {})}
    before = {name: value for name, value in attributes.items() if type(value) in MARKS or isinstance(value, Tensor)}
    for name, value in before.items():
        setattr(metric, name, torch.full_like(value, MARK) if isinstance(value, Tensor) else MARKS[type(value)])
    metric.reset()
    constants = [name for name in before if _marked(getattr(metric, name))]
    for name in constants:
        setattr(metric, name, before[name])
    state = [name for name in before if name not in constants]
    lists = [f"self.{name}" for name in state if isinstance(before[name], list)]
    if lists or not state:
        found = f"it keeps {lists[0]}, a list" if lists else "its reset() sets back no number and no tensor"
        raise HpcDlError(
            f"metric {type(metric).__name__}",
            f"{found}, and only sums can be added up over ranks",
            "keep sums as attributes, such as self.total and self.count, and set them to 0 in reset()",
        )
    return state


def _marked(value: Any) -> bool:
    if isinstance(value, list):
        return value == MARKS[list]
    return bool((torch.as_tensor(value) == MARK).all())


def _like(mine: Any, part: Tensor) -> Any:
    if isinstance(mine, Tensor):
        return part.reshape(mine.shape).to(mine)
    return type(mine)(part.item())
