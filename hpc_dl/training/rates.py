# SPDX-License-Identifier: Apache-2.0
"""Who sets the learning rates: our factor, a function of the step alone, or a schedule of torch's or one's own."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch.optim import Optimizer

from hpc_dl.errors import HpcDlError, nearest
from hpc_dl.run.states import Stateful
from hpc_dl.settings import Settings
from hpc_dl.training.imports import call_path, import_object
from hpc_dl.training.optimizers import Moments, set_rates
from hpc_dl.training.schedule import peak_factor, rate_factor


class Rates(Protocol):
    """Sets the rates of an optimizer's groups."""

    def before_step(self, step: int, total_steps: int) -> None: ...
    def after_step(self) -> None: ...
    def after_epoch(self) -> None: ...
    def after_evaluation(self, step: int, metrics: Mapping[str, float]) -> None: ...
    def states(self) -> dict[str, Stateful]:
        """What a run is resumed with, the optimizer's state included."""


def build(optimizer: Optimizer, settings: Settings, world_size: int, total_steps: int) -> Rates:
    """As `schedule` says.

    Args:
        optimizer: With the rates of one rank.
        settings: Of the run.
        world_size: Number of ranks.
        total_steps: Of a run from its beginning.
    """
    if not settings.schedule.name:
        return FactorRates(optimizer, settings, world_size)
    return TorchRates(optimizer, settings, world_size, total_steps)


class FactorRates:
    """A factor for every step; a checkpoint needs none of it."""

    def __init__(self, optimizer: Optimizer, settings: Settings, world_size: int) -> None:
        self._optimizer, self._schedule, self._world_size = optimizer, settings.schedule, world_size
        self._fixed = settings.training.global_batch is not None
        set_rates(optimizer, 1.0)  # now, since a checkpoint's groups bring the rates of the run before

    def before_step(self, step: int, total_steps: int) -> None:
        set_rates(self._optimizer, rate_factor(step, total_steps, self._world_size, self._schedule, self._fixed))

    def after_step(self) -> None:
        return None

    def after_epoch(self) -> None:
        return None

    def after_evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        return None

    def states(self) -> dict[str, Stateful]:
        return {"optimizer": Moments(self._optimizer)}


class TorchRates:
    """A scheduler of `torch.optim.lr_scheduler`, or one that is used alike; its state is in the checkpoint."""

    def __init__(self, optimizer: Optimizer, settings: Settings, world_size: int, total_steps: int) -> None:
        schedule = settings.schedule
        fixed = settings.training.global_batch is not None
        set_rates(optimizer, peak_factor(world_size, schedule, fixed))
        for group in optimizer.param_groups:
            del group["initial_lr"]  # the scheduler begins with the scaled rate
        self._optimizer, self._schedule = optimizer, schedule
        options = dict(schedule.options)
        if "total_steps" not in options and _takes(schedule.name, "total_steps"):
            options["total_steps"] = total_steps
        self._scheduler = call_path(schedule.name, "schedule.name", options, optimizer)
        self._by_metric = isinstance(self._scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)
        if self._by_metric and not schedule.metric:
            raise HpcDlError(
                f"schedule.name = {schedule.name!r}", "it goes by a metric", "name one of the run's in schedule.metric"
            )

    def before_step(self, step: int, total_steps: int) -> None:
        return None

    def after_step(self) -> None:
        if self._schedule.per == "step" and not self._by_metric:
            self._scheduler.step()

    def after_epoch(self) -> None:
        if self._schedule.per == "epoch" and not self._by_metric:
            self._scheduler.step()

    def after_evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        if not self._by_metric:
            return
        name = self._schedule.metric
        if name not in metrics:
            raise HpcDlError(f"schedule.metric = {name!r}", "no such metric in the evaluation", nearest(name, metrics))
        self._scheduler.step(metrics[name])

    def states(self) -> dict[str, Stateful]:
        return {"optimizer": self._optimizer, "schedule": self._scheduler}


def _takes(path: str, option: str) -> bool:
    try:
        parameter: Any = inspect.signature(import_object(path, "schedule.name")).parameters.get(option)
    except ValueError:
        return False
    return parameter is not None
