# SPDX-License-Identifier: Apache-2.0
"""What evaluations lead to: the best weights are kept, and after some that are no better training ends."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from hpc_dl.errors import HpcDlError, nearest
from hpc_dl.settings import BestSettings


class Evaluations:
    """Follows a metric; part of a checkpoint.

    Args:
        settings: Which, and in which direction.
    """

    def __init__(self, settings: BestSettings) -> None:
        self._settings = settings
        self.step = 0
        """Of the last one."""
        self._value: float | None = None
        self._worse = 0

    def improved(self, step: int, metrics: Mapping[str, float]) -> bool:
        """Take in the evaluation after a step: is it the best so far?

        Raises:
            HpcDlError: There is no such metric.
        """
        self.step, name = step, self._settings.metric
        if not name:
            return False
        if name not in metrics:
            raise HpcDlError(f"best.metric = {name!r}", "no such metric in the evaluation", nearest(name, metrics))
        value = metrics[name] if self._settings.goal == "max" else -metrics[name]
        better = not math.isnan(value) and (self._value is None or value > self._value)
        self._value, self._worse = (value, 0) if better else (self._value, self._worse + 1)
        return better

    @property
    def verdict(self) -> str:
        """Why training is to end; empty where it goes on."""
        if not self._settings.patience or self._worse < self._settings.patience:
            return ""
        return f"no better {self._settings.metric} in {self._worse} evaluations"

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step, "value": self._value, "worse": self._worse}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.step, self._value, self._worse = state["step"], state["value"], state["worse"]
