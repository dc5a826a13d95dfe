# SPDX-License-Identifier: Apache-2.0
"""A few samples through model, loss and metrics before training begins: what does not fit is said in a sentence."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from hpc_dl.data.base import Data, Source
from hpc_dl.errors import HpcDlError
from hpc_dl.training.metrics import (
    TOLERANCE,
    Batch,
    Metric,
    refuse_what_cannot_be_added,
    tally,
    what_cannot_be_added,
)
from hpc_dl.training.modes import modes_kept, put_into_training, unchanged
from hpc_dl.training.weighing import mean_and_weight

T = TypeVar("T")

WRONG = (RuntimeError, ValueError, TypeError, IndexError)
"""Errors of things that do not fit together; others are bugs, and their traceback tells more."""

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


class Stage(NamedTuple):
    """What a sample has passed, for the error."""

    name: str
    inputs: Tensor
    target: Tensor

    def mismatch(self, found: str) -> HpcDlError:
        return HpcDlError(
            self.name,
            f"inputs {_shown(self.inputs)}, target {_shown(self.target)}: {found}",
            "make data (data.source, data.options), task.model, task.loss and task.metrics fit together",
        )


def rehearse(
    data: Data,
    model: nn.Module,
    loss: Callable[[Tensor, Tensor], Any],
    metrics: Mapping[str, Metric],
    to_device: Callable[[Tensor], Tensor],
    autocast: Callable[[], AbstractContextManager[object]],
    local_batch: int = LOSS_SAMPLES,
) -> Rehearsed:
    """Take the first training sample through model and loss as a step does, and the first evaluation samples through
    model and metrics; nothing is changed by it.

    Args:
        data: Both parts.
        model: On its device.
        loss: loss(output, target).
        metrics: By name.
        to_device: Moves a batch and gives it the run's type.
        autocast: Precision of the run.
        local_batch: How many samples a step takes at a time.

    Raises:
        HpcDlError: Shapes or types of data, model, loss and metrics do not fit together, or a metric is none that could
            be added up over ranks.
    """

    def train_on(samples: int) -> None:
        stage, output = _through_model("training", data.train, samples, model, to_device, autocast)
        stage = stage._replace(name="one training sample through the loss")
        with _mismatch_told(stage), autocast():
            value, _ = mean_and_weight(loss(output, stage.target))
        if not isinstance(value, Tensor) or value.numel() != 1:
            raise stage.mismatch(f"the loss gives {_shown(value)}, not one number")

    with unchanged(model), modes_kept(model):
        put_into_training(model)
        with torch.enable_grad():
            least = _least_samples(train_on, len(data.train))
            samples = min(LOSS_SAMPLES, local_batch, len(data.train))
            doubt = _doubt(data.train, samples, model, loss, to_device, autocast) if samples > 1 else ""
        model.eval()
        with torch.no_grad():
            samples = min(METRIC_SAMPLES, len(data.evaluation))
            stage, output = _through_model("evaluation", data.evaluation, samples, model, to_device, autocast)
            for name, metric in metrics.items():
                stage = stage._replace(name=f"one evaluation sample through the metric {name}")
                with _mismatch_told(stage):
                    _try_metric(name, metric, output, stage.target, samples)
    return Rehearsed(least, doubt)


def _try_metric(name: str, metric: Metric, output: Any, target: Any, samples: int) -> None:
    """As an evaluation calls it; then whether it can be put together from parts."""
    tally(metric).add(output, target, samples)

    def compare(whole: Batch, parts: Sequence[Batch], _exact: bool) -> None:
        refuse_what_cannot_be_added(name, metric, whole, parts)

    _in_parts(compare, output, target, samples)


def _doubt(
    source: Source,
    samples: int,
    model: nn.Module,
    loss: Callable[[Tensor, Tensor], Any],
    to_device: Callable[[Tensor], Tensor],
    autocast: Callable[[], AbstractContextManager[object]],
) -> str:
    """Try a loss as a metric is tried. One that draws random numbers, or takes no parts, cannot be."""

    def compare(whole: Batch, parts: Sequence[Batch], exact: bool) -> str:
        tolerance = EXACT_TOLERANCE if exact else TOLERANCE
        if what_cannot_be_added(loss, whole, [whole], tolerance):
            return ""
        return what_cannot_be_added(loss, whole, parts, tolerance)

    try:
        stage, output = _through_model("training", source, samples, model, to_device, autocast)
        with unchanged(loss) if isinstance(loss, nn.Module) else contextlib.nullcontext(), autocast():
            return _in_parts(compare, output, stage.target, samples)
    except (HpcDlError, *WRONG):  # more samples need more memory, and a loss may go backward once
        return ""


def _in_parts(compare: Callable[[Batch, Sequence[Batch], bool], T], output: Any, target: Any, samples: int) -> T:
    """Call with all samples and with the same in two unequal parts, as exactly as it goes."""

    def part(first: int, last: int, exact: bool) -> Batch:
        def cut(value: Any) -> Any:
            if not isinstance(value, Tensor):
                return value
            value = value[first:last] if value.shape[:1] == (samples,) else value
            return value.double() if exact and value.is_floating_point() else value

        return tree_map(cut, output), tree_map(cut, target), last - first

    def compared(exact: bool) -> T:
        parts = [part(0, 1, exact), part(1, samples, exact)] if samples > 1 else []
        return compare(part(0, samples, exact), parts, exact)

    try:
        return compared(exact=True)
    except WRONG:  # it has tensors of its own, whose type must be that of the output
        return compared(exact=False)


def _least_samples(train_on: Callable[[int], None], available: int) -> int:
    """With how many samples it works: where one is too few, two may do."""
    try:
        train_on(1)
    except HpcDlError:
        if available < 2:
            raise
        try:
            train_on(2)
        except HpcDlError:
            pass
        else:
            return 2
        raise
    return 1


def _through_model(
    name: str,
    source: Source,
    samples: int,
    model: nn.Module,
    to_device: Callable[[Tensor], Tensor],
    autocast: Callable[[], AbstractContextManager[object]],
) -> tuple[Stage, Any]:
    inputs, target = (to_device(part) for part in source.batch(np.arange(samples)))
    stage = Stage(f"one {name} sample through the model", inputs, target)
    with _mismatch_told(stage), autocast():
        return stage, model(inputs)


@contextmanager
def _mismatch_told(stage: Stage) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except WRONG as error:
        raise stage.mismatch(_told(error)) from error


def _shown(value: object) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    return type(value).__name__


def _told(error: Exception) -> str:
    """The library's first line, and the last place outside of torch."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "/torch/" not in f.filename]
    where = frames[-1]
    text = str(error).strip().splitlines()
    return f"{text[0] if text else type(error).__name__} ({Path(where.filename).name}, line {where.lineno})"
