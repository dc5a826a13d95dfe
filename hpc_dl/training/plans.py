# SPDX-License-Identifier: Apache-2.0
"""Which samples a rank trains on and evaluates, from a run's settings."""

from __future__ import annotations

import numpy as np

from hpc_dl.comm.base import Engine
from hpc_dl.data.sharding import Indices, Plan, evaluation_plan
from hpc_dl.data.workers import Cut
from hpc_dl.errors import HpcDlError
from hpc_dl.settings import Settings


def training_plan(settings: Settings, samples: int, engine: Engine, least_samples: int = 1) -> Plan:
    """The plan of this rank.

    Args:
        settings: Of the run.
        samples: Of the training data.
        engine: Knows rank and world size.
        least_samples: With how many samples the model can be trained at a time.

    Raises:
        HpcDlError: Some batch would hold fewer than that.
    """
    training = settings.training
    plan = Plan(
        samples=samples,
        world_size=engine.world_size,
        rank=engine.rank,
        local_batch=training.local_batch,
        global_batch=training.global_batch,
        seed=training.seed,
        shuffle=settings.data.shuffle,
        drop_last=training.drop_last,
        least_samples=least_samples,
    )
    part = plan.step_samples // engine.world_size // training.accumulation
    if part < least_samples and training.accumulation > 1:
        raise HpcDlError(
            f"training.accumulation = {training.accumulation}",
            f"a part of a batch has {part} sample, and the model needs {least_samples} to train on, as batch "
            "normalisation does",
            "cut the batch into fewer parts, or normalise over all ranks (device.sync_batchnorm)",
        )
    return plan


def held_back_plan(training: Plan, samples: int) -> Plan:
    """The plan of an evaluation, in batches as large as those of training."""
    local_batch = max(1, training.step_samples // training.world_size)
    return evaluation_plan(samples, training.world_size, training.rank, local_batch)


def in_parts(accumulation: int, least_samples: int, world_size: int, together: bool) -> Cut:
    """How a rank's samples of a step are cut into micro-batches, none of them smaller than `least_samples`.

    Args:
        accumulation: Micro-batches of a step.
        least_samples: With how many samples the model can be trained at a time.
        world_size: Number of ranks.
        together: Do ranks meet within a micro-batch, as in a batch normalisation over all of them? Then each has as
            many as the fullest rank, though some may be empty; else none are empty.
    """

    def cut(indices: Indices, samples: int) -> list[Indices]:
        most = -(-samples // world_size) if together else len(indices)
        parts = min(accumulation, most // least_samples)
        return np.array_split(indices, parts) if parts > 1 else [indices][:parts]

    return cut
