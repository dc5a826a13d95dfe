# SPDX-License-Identifier: Apache-2.0
"""What a run leaves behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hpc_dl.checks import check


@dataclass(frozen=True)
class LogSettings:
    """What is written while training."""

    folder: str | None = None
    """The run's folder; null makes runs/NAME-RANKS-TIME."""
    window_steps: int = 10
    """Steps per line of the log."""
    warmup_steps: int = 10
    """Steps at the start that are marked and left out of every statement."""
    progress: Literal["auto", "bar", "lines", "none"] = "auto"
    """A bar on a terminal, a line per window in a batch log."""

    def __post_init__(self) -> None:
        check(self, positive=("window_steps",), not_negative=("warmup_steps",))


@dataclass(frozen=True)
class CheckpointSettings:
    """What survives the end of the job."""

    every_epochs: int = 0
    """Write a checkpoint after so many epochs; 0 for none."""
    every_steps: int = 0
    """Write a checkpoint after so many steps; 0 for none."""
    every_minutes: float = 15.0
    """Write a checkpoint after so many minutes; 0 for none."""
    stop_margin_seconds: float = 60.0
    """Stop, with a checkpoint, so long before the scheduler ends the job (HPC_DL_JOB_END), or earlier by the time that
    agreeing on it takes. What is left is for writing the checkpoint and the report."""
    keep: int = 2
    """How many checkpoints stay."""
    at_end: bool = True
    """Write one at the end of training."""
    resume: Literal["never", "auto", "must"] = "never"
    """auto continues from the newest whole checkpoint of the run's folder where there is one; must insists."""

    def __post_init__(self) -> None:
        times = ("every_epochs", "every_steps", "every_minutes", "stop_margin_seconds")
        check(self, positive=("keep",), not_negative=times)
