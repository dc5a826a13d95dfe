# SPDX-License-Identifier: Apache-2.0
"""The learning rate, as a factor of an optimizer's own rates: a pure function of the step and the world size."""

from __future__ import annotations

import math
from collections.abc import Callable

from hpc_dl.settings import ScheduleSettings

DECAYS: dict[str, Callable[[float, int, ScheduleSettings], float]] = {
    "none": lambda fraction, done, schedule: 1.0,
    "cosine": lambda fraction, done, schedule: _above(schedule, 0.5 * (1 + math.cos(math.pi * fraction))),
    "step": lambda fraction, done, schedule: schedule.decay_factor ** (done // schedule.decay_every_steps),
    "polynomial": lambda fraction, done, schedule: _above(schedule, (1 - fraction) ** schedule.power),
}
"""What is left of the rate, by the fraction of the run after warm-up and the steps done since."""

SCALING: dict[str, Callable[[int], float]] = {
    "linear": lambda world_size: float(world_size),
    "sqrt": lambda world_size: math.sqrt(world_size),
    "none": lambda world_size: 1.0,
}
"""Factor on the one-rank rate. Linear: Goyal et al. 2017 (1706.02677); square root: Krizhevsky 2014 (1404.5997)."""


def rate_factor(
    step: int,
    total_steps: int,
    world_size: int,
    schedule: ScheduleSettings,
    global_batch_is_fixed: bool = False,
) -> float:
    """What the rates of one rank are multiplied by in one step.

    Args:
        step: Counted from 0.
        total_steps: Steps of the whole run; the decay ends with the last.
        world_size: Number of ranks.
        schedule: Gives the rules.
        global_batch_is_fixed: It does not grow with the ranks; then "auto" leaves the rate alone.

    >>> s = ScheduleSettings(scaling="linear", warmup_steps=2)
    >>> [rate_factor(step, 10, 4, s) for step in (0, 1, 2, 9)]
    [2.0, 3.0, 4.0, 4.0]
    """
    peak = peak_factor(world_size, schedule, global_batch_is_fixed)
    if step < schedule.warmup_steps:
        start = 1.0 if peak > 1 else 0.0
        return start + (peak - start) * (step + 1) / (schedule.warmup_steps + 1)
    done = step - schedule.warmup_steps
    left = max(1, total_steps - 1 - schedule.warmup_steps)
    return peak * decay_factor(done, left, schedule)


def peak_factor(world_size: int, schedule: ScheduleSettings, global_batch_is_fixed: bool = False) -> float:
    """What the number of ranks makes of the rates, after warm-up and before decay."""
    automatic = "none" if global_batch_is_fixed else "linear"
    return SCALING[automatic if schedule.scaling == "auto" else schedule.scaling](world_size)


def decay_factor(done: int, last: int, schedule: ScheduleSettings) -> float:
    """What is left of the rate `done` steps after warm-up, where the last step of the run is number `last`."""
    return DECAYS[schedule.decay](min(1.0, done / last), done, schedule)


def _above(schedule: ScheduleSettings, part: float) -> float:
    """A part of what lies above the final fraction, and that."""
    return schedule.final_fraction + (1 - schedule.final_fraction) * part
