# SPDX-License-Identifier: Apache-2.0
"""What does not fit together, told with the shapes of the batch and the line that failed."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from hpc_dl.data.batch import Batch
from hpc_dl.errors import HpcDlError
from hpc_dl.training.objective import Objective

WRONG = (RuntimeError, ValueError, TypeError, IndexError)
"""Errors of things that do not fit together; others are bugs, and their traceback tells more."""


@dataclass(frozen=True)
class Stage:
    """What samples are passing, for the error."""

    objective: Objective
    what: str
    """Such as "one training sample"."""
    batch: Batch

    @contextmanager
    def through(self, name: str) -> Iterator[None]:
        """A mismatch in here is told as one of this part."""
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except WRONG as error:
            raise self.mismatch(name, told(error)) from error

    def mismatch(self, name: str, what: str) -> HpcDlError:
        return HpcDlError(
            f"{self.what} through {name}",
            f"{self.objective.describe(self.batch)}: {what}",
            f"make data (data.source, data.options), task.model, {self.objective.setting} and task.metrics fit "
            "together",
        )


def told(error: Exception) -> str:
    """The library's first line, and the last place outside of torch."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "/torch/" not in f.filename]
    where = frames[-1]
    text = str(error).strip().splitlines()
    return f"{text[0] if text else type(error).__name__} ({Path(where.filename).name}, line {where.lineno})"
