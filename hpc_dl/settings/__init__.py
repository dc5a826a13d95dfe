# SPDX-License-Identifier: Apache-2.0
"""Every setting of a training run: frozen dataclasses, checked when built, a docstring under each field.

Flags and TOML files are derived from these classes (`arguments.py`); this module knows neither. Units are in the names.
Choices stand here as literals, so that flags list them without torch; `tests/test_choices.py` holds them to the tables
of the rooms that make something of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from hpc_dl.settings.optimisation import OPTIMIZERS, BestSettings, OptimizerSettings, ScheduleSettings, TrainingSettings
from hpc_dl.settings.place import DeviceSettings, ExchangeSettings
from hpc_dl.settings.records import CheckpointSettings, LogSettings
from hpc_dl.settings.task import DataSettings, TaskSettings

RENAMED = {
    "checkpoint.last": "checkpoint.at_end",
    "checkpoint.stop_seconds": "checkpoint.stop_margin_seconds",
    "task.after": "task.on_finish",
    "training.largest_batch": "training.find_largest_batch",
}
"""Names of version 0.1, which flags and files may still use until 0.3."""

__all__ = [
    "OPTIMIZERS",
    "RENAMED",
    "BestSettings",
    "CheckpointSettings",
    "DataSettings",
    "DeviceSettings",
    "ExchangeSettings",
    "LogSettings",
    "OptimizerSettings",
    "ScheduleSettings",
    "Settings",
    "TaskSettings",
    "TrainingSettings",
]


@dataclass(frozen=True)
class Settings:
    """One training run."""

    name: str = "run"
    """Label of the run in logs and reports."""
    task: TaskSettings = TaskSettings()
    data: DataSettings = DataSettings()
    training: TrainingSettings = TrainingSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    exchange: ExchangeSettings = ExchangeSettings()
    device: DeviceSettings = DeviceSettings()
    log: LogSettings = LogSettings()
    checkpoint: CheckpointSettings = CheckpointSettings()
    best: BestSettings = BestSettings()
