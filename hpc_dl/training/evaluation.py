# SPDX-License-Identifier: Apache-2.0
"""Metrics on held-back data: every sample counted once, whatever the number of ranks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from hpc_dl.comm.base import Engine
from hpc_dl.training.metrics import Metric

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
    """Means over the samples of all ranks.

    Args:
        model: Put into evaluation mode meanwhile.
        batches: This rank's inputs and targets, on the device; the batches of all ranks hold every sample once.
        metrics: Means over a batch by name.
        engine: Sums over ranks, once.
        device: Gives autocast.
        precision: As in training.

    Returns:
        The metrics, and the number of samples they are taken over.
    """
    training = model.training
    model.eval()
    sums = torch.zeros(len(metrics) + 1, dtype=torch.float64)
    for inputs, target in batches:
        if len(inputs) == 0:
            continue
        with device.autocast(precision):
            output = model(inputs)
        values = [float(metric(output, target)) for metric in metrics.values()]
        sums += torch.tensor([*values, 1.0], dtype=torch.float64) * len(inputs)
    model.train(training)
    *totals, samples = engine.reduce(sums, "sum", "evaluation").tolist()
    return {name: total / samples for name, total in zip(metrics, totals, strict=True)}, round(samples)
