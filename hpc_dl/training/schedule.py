# SPDX-License-Identifier: Apache-2.0
"""The learning rate: a pure function of the step and the world size."""

from __future__ import annotations

import math

from hpc_dl.settings import OptimizerSettings, ScheduleSettings

SCALING = {
    "linear": lambda world_size: float(world_size),
    "sqrt": lambda world_size: math.sqrt(world_size),
    "none": lambda world_size: 1.0,
}
"""Factor on the one-rank rate. Linear: Goyal et al. 2017 (1706.02677); square root: Krizhevsky 2014 (1404.5997)."""


def learning_rate(
    step: int, total_steps: int, world_size: int, optimizer: OptimizerSettings, schedule: ScheduleSettings
) -> float:
    """The rate of one step.

    Args:
        step: Counted from 0.
        total_steps: Steps of the whole run; the decay ends with the last.
        world_size: Number of ranks.
        optimizer: Gives the rate of one rank.
        schedule: Gives the rules.

    >>> s = ScheduleSettings(scaling="linear", warmup_steps=2)
    >>> [round(learning_rate(step, 10, 4, OptimizerSettings(learning_rate=0.1), s), 3) for step in (0, 1, 2, 9)]
    [0.1, 0.25, 0.4, 0.4]
    """
    base = optimizer.learning_rate
    peak = base * SCALING[schedule.scaling](world_size)
    if step < schedule.warmup_steps:
        return base + (peak - base) * step / schedule.warmup_steps
    done = step - schedule.warmup_steps
    left = max(1, total_steps - 1 - schedule.warmup_steps)
    return peak * decay_factor(done, left, schedule)


def decay_factor(done: int, last: int, schedule: ScheduleSettings) -> float:
    """What is left of the rate `done` steps after warm-up, where the last step of the run is number `last`."""
    fraction = min(1.0, done / last)
    floor = schedule.final_fraction
    if schedule.decay == "cosine":
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * fraction))
    if schedule.decay == "polynomial":
        return floor + (1 - floor) * (1 - fraction) ** schedule.power
    if schedule.decay == "step":
        return float(schedule.decay_factor ** (done // schedule.decay_every_steps))
    return 1.0
