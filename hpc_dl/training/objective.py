# SPDX-License-Identifier: Apache-2.0
"""What a step minimises: a function of model and batch, or a loss of output and target where batches are pairs.

Either returns the mean over the samples it is given, or that mean and its weight as a pair: tokens that count, pixels
of a mask. A function may return named terms in place of the one number: with a term "loss" that is what is minimised
and the others are only logged, else it is their sum.

Losses of torch over classes need no such pair: `weighing.py` knows what they are means over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from hpc_dl.data.batch import Batch, describe, leaves
from hpc_dl.errors import HpcDlError
from hpc_dl.training.weighing import over_classes

LOSS = "loss"
"""The term that is minimised, where there is one of this name."""


class Found(NamedTuple):
    """What a function found of a batch."""

    loss: Any
    """The mean that is minimised."""
    weight: Any
    """What it is a mean over, where the function said so, else None."""
    terms: dict[str, Any]
    """Further means over the same, by name."""

    def scaled(self, factor: Tensor | float) -> dict[str, Any]:
        """The terms, each times a factor and without a graph."""
        return {name: _detached(term) * factor for name, term in self.terms.items()}


def mean_and_weight(result: Any) -> tuple[Any, Any]:
    """What a function returned: the mean, and its weight where it said so, else None."""
    return result if isinstance(result, tuple) else (result, None)


def found(result: Any) -> Found:
    """The parts of what an objective returned: a number, named numbers, or one of the two and its weight."""
    value, weight = mean_and_weight(result)
    if not isinstance(value, Mapping):
        return Found(value, weight, {})
    terms = dict(value)
    loss = terms.pop(LOSS) if LOSS in terms else sum(terms.values())
    return Found(loss, weight, terms)


class Objective:
    """A function of model and batch; metrics of an evaluation are called with the same two.

    Args:
        function: function(model, batch), see above.
    """

    setting = "task.objective"

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def arguments(self, model: nn.Module, batch: Batch) -> tuple[Any, Any]:
        """What the function is called with, and metrics are."""
        return model, batch

    def nothing(self, arguments: tuple[Any, Any], loss: Tensor) -> Tensor:
        """A zero that depends on the model as the loss does, for a mean over nothing, which is no number."""
        return loss.nan_to_num() * 0

    def weight(self, batch: Batch) -> Tensor | None:
        """What the loss is a mean over, where that is known before it is computed. The batch stays where it is."""
        return None

    def describe(self, batch: Batch) -> str:
        """Types and shapes, for an error."""
        return f"a batch {describe(batch)}"


class PairObjective(Objective):
    """A loss of output and target, of batches (input, target); metrics are called with output and target."""

    setting = "task.loss"

    def arguments(self, model: nn.Module, batch: Batch) -> tuple[Any, Any]:
        inputs, target = self._pair(batch)
        return model(inputs), target

    def nothing(self, arguments: tuple[Any, Any], loss: Tensor) -> Tensor:
        output = next(leaf for leaf in leaves(arguments[0]) if isinstance(leaf, Tensor))
        return output.sum() * 0

    def weight(self, batch: Batch) -> Tensor | None:
        _, target = self._pair(batch)
        known = over_classes(self.function, target)
        return None if known is None else known.of(target).sum()

    def describe(self, batch: Batch) -> str:
        inputs, target = self._pair(batch)
        return f"inputs {describe(inputs)}, target {describe(target)}"

    def _pair(self, batch: Batch) -> tuple[Any, Any]:
        if not (isinstance(batch, list | tuple) and len(batch) == 2):
            raise HpcDlError(
                "task.loss, which is called with output and target",
                f"the data's batches are {describe(batch)}, not pairs (input, target)",
                "name a function of model and batch in task.objective, or let the data give pairs",
            )
        return batch[0], batch[1]


def objective(function: Callable[..., Any] | Objective) -> Objective:
    """An objective as it is; any other function is a loss of output and target."""
    return function if isinstance(function, Objective) else PairObjective(function)


def _detached(term: Any) -> Any:
    return term.detach() if isinstance(term, Tensor) else term
