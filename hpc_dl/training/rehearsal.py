# SPDX-License-Identifier: Apache-2.0
"""A few samples through model, objective and metrics before training begins: a mismatch is told in a sentence."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from hpc_dl.data.base import Data, Source
from hpc_dl.data.batch import Batch, describe, map_tensors
from hpc_dl.errors import HpcDlError
from hpc_dl.training.metrics import refuse_what_cannot_be_added
from hpc_dl.training.mismatch import WRONG, Stage
from hpc_dl.training.modes import modes_kept, put_into_training, unchanged
from hpc_dl.training.objective import LOSS, Objective, PairObjective, found
from hpc_dl.training.tallies import TOLERANCE, Arguments, Metric, Terms, tally, what_cannot_be_added

T = TypeVar("T")

METRIC_SAMPLES = 3
"""Two unequal parts at the least, and few enough for a large model."""

LOSS_SAMPLES = 8
"""Some more, that sentences of different lengths are among them; never more than a step takes."""

EXACT_TOLERANCE = 1e-6
"""Between losses computed in float64, which may round to float32 within: samples of one kind differ little."""


class Rehearsed(NamedTuple):
    """What a rehearsal found out."""

    least_samples: int
    """The fewest samples a training step can do with: 2 where a layer normalises over the batch."""
    doubt: str
    """Why gradients would depend on the number of ranks; empty where the loss is the mean that it should be."""
    terms: tuple[str, ...] = ()
    """Names of the objective's terms besides the loss."""


@dataclass(frozen=True)
class Rehearsal:
    """Takes the first training sample through model and objective as a step does, and the first evaluation samples
    through model and metrics; nothing is changed by it.

    Args:
        data: Both parts.
        model: On its device.
        objective: What is minimised.
        place: Moves a batch and gives it the run's type.
        autocast: Precision of the run.
    """

    data: Data
    model: nn.Module
    objective: Objective
    place: Callable[[Batch], Batch]
    autocast: Callable[[], AbstractContextManager[object]]

    def training(self, local_batch: int = LOSS_SAMPLES) -> Rehearsed:
        """Try the objective.

        Args:
            local_batch: How many samples a step takes at a time.

        Raises:
            HpcDlError: Shapes or types of data, model and objective do not fit together.
        """
        with unchanged(self.model), modes_kept(self.model), torch.enable_grad():
            put_into_training(self.model)
            least, terms = self._least_samples()
            samples = min(LOSS_SAMPLES, local_batch, len(self.data.train))
            doubt = self._doubt(samples, terms) if samples > 1 else ""
        return Rehearsed(least, doubt, terms)

    def evaluation(self, metrics: Mapping[str, Metric]) -> None:
        """Try the metrics, as an evaluation calls them; then whether they can be put together from parts.

        Raises:
            HpcDlError: They do not fit, or a metric is none that could be added up over ranks.
        """
        for name, differences in self._try(metrics).items():
            refuse_what_cannot_be_added(name, differences)

    def own_metrics(self, terms: Sequence[str]) -> dict[str, Metric]:
        """What an evaluation tells of the objective itself: its loss and those terms that are means, since others would
        depend on the number of ranks.

        Args:
            terms: As `training` has found them.
        """
        names = (LOSS, *terms)
        differences = self._try({LOSS: Terms(self.objective.function, names)})[LOSS]
        means = tuple(name for name in names if name not in differences)
        return {LOSS: Terms(self.objective.function, means)} if means else {}

    def _try(self, metrics: Mapping[str, Metric]) -> dict[str, dict[str, str]]:
        """Call metrics as an evaluation does; then how they differ where they are put together from parts."""
        source = self.data.evaluation
        samples, found = min(METRIC_SAMPLES, len(source)), {}
        with unchanged(self.model), modes_kept(self.model), torch.no_grad():
            self.model.eval()
            stage, arguments = self._arguments("evaluation", source, samples)
            for name, metric in metrics.items():
                with stage.through(f"the metric {name}"):
                    tally(metric).add(*arguments, samples)
                    found[name] = self._differences(metric, source, arguments, samples)
        return found

    def _differences(
        self,
        metric: Metric,
        source: Source,
        arguments: tuple[Any, Any],
        samples: int,
        exact_tolerance: float = TOLERANCE,
    ) -> dict[str, str]:
        """Of what is computed from all samples and from parts of them; none where it draws random numbers."""

        def compare(whole: Arguments, parts: Sequence[Arguments], exact: bool) -> dict[str, str]:
            tolerance = exact_tolerance if exact else TOLERANCE
            if not parts or what_cannot_be_added(metric, whole, [whole], tolerance):
                return {}
            return what_cannot_be_added(metric, whole, parts, tolerance)

        return self._in_parts(compare, source, arguments, samples)

    def _least_samples(self) -> tuple[int, tuple[str, ...]]:
        """With how many samples a step works, since where one is too few, two may do; and the names of its terms."""
        try:
            return 1, self._train_on(1)
        except HpcDlError:
            if len(self.data.train) < 2:
                raise
            try:
                return 2, self._train_on(2)
            except HpcDlError:
                pass
            raise

    def _train_on(self, samples: int) -> tuple[str, ...]:
        stage, arguments = self._arguments("training", self.data.train, samples)
        name = self.objective.setting.replace("task.", "the ")
        with stage.through(name), self.autocast():
            result = found(self.objective.function(*arguments))
        for term, value in {name: result.loss, **result.terms}.items():
            if not (isinstance(value, Tensor) or term in result.terms) or _numel(value) != 1:
                what = name if term == name else f"the term {term!r}"
                raise stage.mismatch(name, f"{what} gives {describe(value)}, not one number")
        return tuple(result.terms)

    def _doubt(self, samples: int, terms: Sequence[str]) -> str:
        """Try an objective as a metric is tried, where it takes parts of a batch."""
        function, pairs = self.objective.function, isinstance(self.objective, PairObjective)
        metric = function if pairs and not terms else Terms(function, (LOSS,))
        try:
            if not pairs:
                self.model.eval()  # it is called for each part: neither dropout nor statistics of the batch
            _, arguments = self._arguments("training", self.data.train, samples)
            with unchanged(function) if isinstance(function, nn.Module) else contextlib.nullcontext(), self.autocast():
                found = self._differences(metric, self.data.train, arguments, samples, EXACT_TOLERANCE)
        except (HpcDlError, *WRONG):  # more samples need more memory, and a loss may go backward once
            return ""
        return next(iter(found.values()), "")

    def _in_parts(
        self,
        compare: Callable[[Arguments, Sequence[Arguments], bool], T],
        source: Source,
        arguments: tuple[Any, Any],
        samples: int,
    ) -> T:
        """Call with all samples and with the same in two unequal parts, as exactly as it goes."""

        def part(first: int, last: int, exact: bool) -> Arguments:
            if isinstance(self.objective, PairObjective):
                return *(_cut(value, first, last, samples, exact) for value in arguments), last - first
            return self.model, self.place(source.batch(np.arange(first, last))), last - first

        def compared(exact: bool) -> T:
            parts = [part(0, 1, exact), part(1, samples, exact)] if samples > 1 else []
            return compare(part(0, samples, exact), parts, exact)

        if not isinstance(self.objective, PairObjective):
            return compared(exact=False)
        try:
            return compared(exact=True)
        except WRONG:  # it has tensors of its own, whose type must be that of the output
            return compared(exact=False)

    def _arguments(self, kind: str, source: Source, samples: int) -> tuple[Stage, tuple[Any, Any]]:
        batch = self.place(source.batch(np.arange(samples)))
        stage = Stage(self.objective, f"one {kind} sample", batch)
        with stage.through("the model"), self.autocast():
            return stage, self.objective.arguments(self.model, batch)


def _cut(values: Any, first: int, last: int, samples: int, exact: bool) -> Any:
    def cut(value: Tensor) -> Tensor:
        value = value[first:last] if value.shape[:1] == (samples,) else value
        return value.double() if exact and value.is_floating_point() else value

    return map_tensors(cut, values)


def _numel(value: Any) -> int:
    return value.numel() if isinstance(value, Tensor) else 1 if isinstance(value, int | float) else 0
