# SPDX-License-Identifier: Apache-2.0
"""The largest local batch that fits: tried for real, step by step, and agreed by all ranks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from hpc_dl.comm.base import Engine
from hpc_dl.data.base import Source
from hpc_dl.data.batch import Placement
from hpc_dl.errors import HpcDlError
from hpc_dl.training.objective import Objective, found

if TYPE_CHECKING:
    from hpc_dl.devices.base import Device

RESOLUTION = 8
"""The batch is found to one part in so many: a finer search costs steps and saves little."""


def largest_batch(attempt: Callable[[int], object], device: Device, engine: Engine, limit: int) -> int:
    """The largest batch, up to the limit, with which the attempt succeeds on every rank.

    Doubles until it fails on some rank, then closes in on the border. All ranks call it.

    Args:
        attempt: Does all that a step of that local batch does, on this rank alone: a rank that runs out of memory
            halfway must not leave others in a collective.
        limit: Largest batch of interest.

    Raises:
        HpcDlError: Not even one sample fits on every rank.
    """

    def fits(batch: int) -> bool:
        verdict = torch.tensor([float(_succeeds(attempt, batch, device))])
        return bool(engine.reduce(verdict, "min", "largest_batch"))

    good, bad = min(2, limit), limit + 1  # 2, because batch normalisation refuses a single sample
    if not fits(good):
        if good == 2 and fits(1):
            return 1
        raise HpcDlError(
            "the largest batch that fits",
            f"not even one sample fits into the {device.memory_total_bytes() / 2**30:.1f} GiB of {device.torch_device}",
            "use a smaller model, a lower precision (device.precision = 'bf16'), or a device with more memory",
        )
    while good < limit and bad > limit:
        batch = min(2 * good, limit)
        good, bad = (batch, bad) if fits(batch) else (good, batch)
    while bad <= limit and bad - good > max(1, good // RESOLUTION):
        batch = (good + bad) // 2
        good, bad = (batch, bad) if fits(batch) else (good, batch)
    return good


def largest_local_batch(
    model: nn.Module,
    make_optimizer: Callable[[], torch.optim.Optimizer],
    objective: Objective,
    source: Source,
    device: Device,
    engine: Engine,
    place: Placement,
    precision: str = "fp32",
) -> int:
    """The largest number of samples with which one training step of a model fits on every rank.

    The model is as it was afterwards. Call it before the model is distributed: nothing may be exchanged here.

    Args:
        model: On the device.
        make_optimizer: Builds its optimizer, whose state takes memory too.
        objective: What is minimised.
        source: Training samples; taken more than once where the batch is larger than the source.
        place: Moves a batch to the device.

    Raises:
        HpcDlError: On a CPU, whose memory ends without an error that could be caught; or nothing fits.
    """
    if device.name == "cpu":
        raise HpcDlError(
            "the largest batch that fits",
            "a host's memory ends in a killed process, not in an error",
            "give training.local_batch",
        )
    kept = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
    optimizer = make_optimizer()

    def attempt(batch: int) -> None:
        exchanged = [torch.empty_like(p) for p in model.parameters() if p.requires_grad and engine.world_size > 1]
        some = place(source.batch(np.arange(batch) % len(source)))
        with device.autocast(precision):
            mean = found(objective.function(*objective.arguments(model, some))).loss
        mean.backward()
        optimizer.step()
        del exchanged  # kept until here: the buckets of the gradient exchange will stand beside the gradients

    try:
        return largest_batch(attempt, device, engine, max(1, len(source) // engine.world_size))
    finally:
        model.zero_grad(set_to_none=True)
        optimizer.state.clear()
        model.load_state_dict(kept)
        device.release_memory()


def _succeeds(attempt: Callable[[int], object], batch: int, device: Device) -> bool:
    """Does the attempt end without running out of memory? Whatever it held is free afterwards."""
    try:
        attempt(batch)
        device.synchronize()
        success = True
    except Exception as error:
        if not device.is_out_of_memory(error):
            raise
        success = False  # the error, and with it the frames that hold tensors, is gone after this block
    device.release_memory()
    return success
