# SPDX-License-Identifier: Apache-2.0
"""One sample through model and loss before training begins: what does not fit together is said in a sentence."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hpc_dl.data.base import Data
from hpc_dl.errors import HpcDlError


@torch.no_grad()
def rehearse(
    data: Data,
    model: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor],
    to_device: Callable[[Tensor], Tensor],
    autocast: Callable[[], AbstractContextManager[object]],
) -> None:
    """Take the first sample of the training and of the evaluation data as a batch of one; nothing is changed by it.

    Args:
        data: Both parts.
        model: On its device; in evaluation mode meanwhile.
        loss: loss(output, target).
        to_device: Moves a batch and gives it the run's type.
        autocast: Precision of the run.

    Raises:
        HpcDlError: Shapes or types of data, model and loss do not fit together.
    """
    training = model.training
    model.eval()
    for name, source in (("training", data.train), ("evaluation", data.evaluation)):
        inputs, target = (to_device(part) for part in source.batch(np.zeros(1, dtype=np.int64)))
        stage = "model"
        try:
            with autocast():
                output = model(inputs)
                stage = "loss"
                value = loss(output, target)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            raise _mismatch(f"one {name} sample through the {stage}", inputs, target, _told(error)) from error
        if not isinstance(value, Tensor) or value.numel() != 1:
            found = f"the loss gives {_shown(value)}, not one number"
            raise _mismatch(f"one {name} sample through the loss", inputs, target, found)
    model.train(training)


def _mismatch(asked: str, inputs: Tensor, target: Tensor, found: str) -> HpcDlError:
    return HpcDlError(
        asked,
        f"inputs {_shown(inputs)}, target {_shown(target)}: {found}",
        "make data (data.source, data.options), task.model and task.loss fit together",
    )


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
