# SPDX-License-Identifier: Apache-2.0
"""Metrics on held-back data: every sample counted once, whatever the number of ranks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import nn

from hpc_dl.comm.base import Engine
from hpc_dl.data.batch import Placement
from hpc_dl.data.workers import Part
from hpc_dl.training.modes import modes_kept
from hpc_dl.training.objective import Objective
from hpc_dl.training.tallies import Metric, over_ranks, tally

if TYPE_CHECKING:
    from hpc_dl.devices.base import Device


@torch.no_grad()
def evaluate(
    model: nn.Module,
    parts: Iterable[Part],
    metrics: Mapping[str, Metric],
    objective: Objective,
    engine: Engine,
    device: Device,
    place: Placement,
    precision: str = "fp32",
) -> tuple[dict[str, float], int]:
    """Metrics of the samples of all ranks.

    Args:
        model: Put into evaluation mode meanwhile.
        parts: This rank's batches; those of all ranks hold every sample once.
        metrics: By name; called as the objective's function is.
        objective: Says what functions of a batch are called with.
        engine: Sums over ranks, once.
        device: Gives autocast.
        place: Moves batches to the device.
        precision: As in training.

    Returns:
        The metrics, and the number of samples.
    """
    tallies, counted = {name: tally(metric) for name, metric in metrics.items()}, 0
    with modes_kept(model):
        model.eval()
        for batch, samples in parts:
            if samples == 0:
                continue
            with device.autocast(precision):
                arguments = objective.arguments(model, place(batch))
            for one in tallies.values():
                one.add(*arguments, samples)
            counted += samples
    return over_ranks(tallies, counted, engine)
