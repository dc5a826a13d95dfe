# SPDX-License-Identifier: Apache-2.0
"""The very gradient buckets of a model: how large they are, when backward fills them, and how long their sums take."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from torch import Tensor, nn
from torch.nn import Parameter

from hpc_dl.bench.measure import Plan, repeat
from hpc_dl.bench.transports import Transport
from hpc_dl.comm.buckets import make_buckets
from hpc_dl.data.base import Source
from hpc_dl.data.batch import Placement
from hpc_dl.predict.benchmark import ModelBuckets
from hpc_dl.training.objective import Objective, found

if TYPE_CHECKING:
    from hpc_dl.devices.base import Device

PASSES = 7
"""Forward and backward passes timed; the first is warm-up, medians count."""


class Timeline(NamedTuple):
    """One forward and backward pass."""

    forward_seconds: float
    backward_seconds: float
    ready_seconds: list[float]
    """After the start of backward, per bucket: when its last gradient arrived, and those of the buckets before it."""


def profile(
    transport: Transport,
    name: str,
    model: nn.Module,
    objective: Objective,
    source: Source,
    local_batch: int,
    device: Device,
    place: Placement,
    precision: str,
    bucket_megabytes: float,
    plan: Plan,
) -> ModelBuckets | None:
    """Time a model's passes on this rank and the sums of its buckets over all ranks; the answer is on rank 0.

    Args:
        transport: The ranks.
        name: Label of the model.
        model, objective, source, place, precision: As in training; nothing is updated.
        local_batch: Samples per rank and step.
        device: Where the model is.
        bucket_megabytes: As in exchange.bucket_megabytes.
        plan: How often sums are repeated.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    buckets = make_buckets(trainable, round(bucket_megabytes * 2**20), transport.least_buckets)
    groups = [bucket.parameters for bucket in buckets]
    samples = min(local_batch, len(source))
    batch = place(source.batch(np.arange(samples)))

    def forward() -> Tensor:
        with device.autocast(precision):
            loss: Tensor = found(objective.function(*objective.arguments(model, batch))).loss
            return loss

    passes = [_one_pass(model, forward, groups, device) for _ in range(PASSES)][1:]
    sizes = [sum(p.numel() * p.element_size() + p.element_size() for p in group) for group in groups]
    summed = [transport.gather(repeat(transport, transport.prepare("allreduce", size), plan)) for size in sizes]
    if transport.rank != 0:
        return None
    ready = np.median([timeline.ready_seconds for timeline in passes], axis=0)
    backward = float(np.median([timeline.backward_seconds for timeline in passes]))
    return ModelBuckets(
        model=name,
        local_batch=samples,
        forward_seconds=float(np.median([timeline.forward_seconds for timeline in passes])),
        backward_seconds=backward,
        size_bytes=tuple(sizes),
        ready=tuple(float(min(value / backward, 1.0)) for value in ready),
        seconds=tuple(float(np.median(np.max(np.array(times), axis=0))) for times in summed),
    )


def _one_pass(
    model: nn.Module, forward: Callable[[], Tensor], groups: list[list[Parameter]], device: Device
) -> Timeline:
    """One forward and backward pass with a mark at every gradient."""
    arrivals: dict[int, object] = {}

    def arrived(parameter: Tensor) -> None:
        arrivals[id(parameter)] = device.mark()

    hooks = [p.register_post_accumulate_grad_hook(arrived) for group in groups for p in group]
    model.zero_grad(set_to_none=True)
    device.synchronize()
    start = device.mark()
    value = forward()
    middle = device.mark()
    value.backward()
    end = device.mark()
    device.synchronize()
    for hook in hooks:
        hook.remove()
    # A parameter without a gradient is sent at the end of backward.
    marks = [[arrivals.get(id(p), end) for p in group] for group in groups]
    ready = [max(device.seconds_between(middle, mark) for mark in group) for group in marks]
    in_order = np.maximum.accumulate(ready)
    return Timeline(
        device.seconds_between(start, middle), device.seconds_between(middle, end), [float(x) for x in in_order]
    )
