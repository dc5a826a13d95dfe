# SPDX-License-Identifier: Apache-2.0
"""Metrics on held-back data: every sample counted once, whatever the number of ranks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from hpc_dl.comm.base import Engine
from hpc_dl.training.metrics import Metric, over_ranks, tally
from hpc_dl.training.modes import modes_kept

if TYPE_CHECKING:
    from hpc_dl.devices.base import Device


@torch.no_grad()
def evaluate(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    metrics: Mapping[str, Metric],
    engine: Engine,
    device: Device,
    precision: str = "fp32",
) -> tuple[dict[str, float], int]:
    """Metrics of the samples of all ranks.

    Args:
        model: Put into evaluation mode meanwhile.
        batches: This rank's inputs and targets, on the device; the batches of all ranks hold every sample once.
        metrics: By name.
        engine: Sums over ranks, once.
        device: Gives autocast.
        precision: As in training.

    Returns:
        The metrics, and the number of samples.
    """
    tallies, samples = {name: tally(metric) for name, metric in metrics.items()}, 0
    with modes_kept(model):
        model.eval()
        for inputs, target in batches:
            if len(inputs) == 0:
                continue
            with device.autocast(precision):
                output = model(inputs)
            for one in tallies.values():
                one.add(output, target, len(inputs))
            samples += len(inputs)
    return over_ranks(tallies, samples, engine)
