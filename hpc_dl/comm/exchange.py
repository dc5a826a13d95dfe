# SPDX-License-Identifier: Apache-2.0
"""Gradient averaging while backward runs: flat buckets, summed by any engine.

Parameters are put into buckets in reverse order of registration, which is about the order in which backward finishes
them. A hook on each parameter counts down its bucket; a full bucket is filled (gradient x 1/world size, one pass) and
its sum started. Buckets start in one fixed order on all ranks, so an engine without negotiation cannot mix them up.
`finish` starts what is left (parameters without a gradient count as zero), waits, and points each `.grad` at its place
in the bucket.

A bucket ends with one flag per parameter, summed along with the gradients: a parameter that got a gradient on no rank
keeps `.grad = None` and is left alone by the optimizer, as in a run on one process.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import Parameter

from hpc_dl.comm.base import Engine, Work
from hpc_dl.errors import HpcDlError

FIRST_BUCKET_BYTES = 2**20
"""The first bucket is smaller, so that the first sum starts early (as in torch's DistributedDataParallel)."""


@dataclass
class Bucket:
    """Some parameters of one type on one device, and the flat tensor their gradients travel in."""

    name: str
    parameters: list[Parameter]
    flat: Tensor
    views: list[Tensor]
    """Per parameter: its part of `flat`, in the parameter's shape and memory format."""
    flags: Tensor
    """Tail of `flat`: per parameter, non-zero where some rank had a gradient. Empty: missing counts as zero."""
    missing: int = 0
    """Gradients that have not arrived in this step."""
    arrived: set[int] = field(default_factory=set)
    taken: list[tuple[Tensor, int | None] | None] = field(default_factory=list)
    """Per parameter: the gradient that was sent, and its version then; None where there was none."""
    work: Work | None = None
    wire: Tensor | None = None
    """`flat` in the type it travels in, where gradients are compressed."""


class GradientExchange:
    """Averages the gradients of some parameters over all ranks.

    Args:
        engine: Sums a flat tensor.
        parameters: Shared ones may occur twice; frozen ones are left out.
        bucket_bytes: About how much is summed at a time; 0 gives each parameter a bucket of its own.
        wire_dtype: Type of the gradients on the wire, None for their own.
        adasum: Horovod's adaptive sum in place of the mean.
        name: Tells this exchange from others under way, the same on all ranks.
    """

    def __init__(
        self,
        engine: Engine,
        parameters: Iterable[Parameter],
        bucket_bytes: int,
        wire_dtype: torch.dtype | None = None,
        adasum: bool = False,
        name: str = "gradients",
    ) -> None:
        self._engine = engine
        self._wire_dtype = wire_dtype
        self._start = engine.adasum_async if adasum else self._sum_async
        self._scale, self._scale_back = _scales(engine.world_size, wire_dtype, adasum)
        self._paused = False
        self._next = 0
        self._finished = False
        self._parameters = list(dict.fromkeys(parameters))
        trainable = [parameter for parameter in self._parameters if parameter.requires_grad]
        self._exchanged = {id(parameter) for parameter in trainable}
        # Adasum weighs whole tensors against each other: each its own bucket, with nothing beside it.
        bucket_bytes = 0 if adasum else bucket_bytes
        self.buckets = make_buckets(trainable, bucket_bytes, engine.least_buckets, flagged=not adasum, name=name)
        for bucket in self.buckets:
            for slot, parameter in enumerate(bucket.parameters):
                parameter.register_post_accumulate_grad_hook(self._hook(bucket, slot))

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Backward passes in here only accumulate; the next one outside exchanges the total."""
        self._paused = True
        try:
            yield
        finally:
            self._paused = False

    @torch.no_grad()
    def finish(self) -> None:
        """Wait until every gradient is the mean over ranks. All ranks call it once per step, after backward."""
        for bucket in self.buckets[self._next :]:
            self._launch(bucket)
        for bucket in self.buckets:
            self._collect(bucket)
        self._next = 0
        self._finished = True

    def finish_if_needed(self) -> None:
        """`finish`, unless this step's exchange is over: for optimizers that step in somebody else's loop."""
        if not self._finished:
            self.finish()
        self._finished = False
        for parameter in self._parameters:
            if parameter.grad is not None and id(parameter) not in self._exchanged:
                raise HpcDlError(
                    "the optimizer's step",
                    "a parameter has a gradient that was not averaged: it was frozen when the model was distributed",
                    "distribute the model with it trainable, and freeze it afterwards",
                )

    def _sum_async(self, tensor: Tensor, name: str) -> Work:
        return self._engine.reduce_async(tensor, "sum", name)

    def _hook(self, bucket: Bucket, slot: int) -> Callable[[Tensor], None]:
        def arrived(parameter: Tensor) -> None:
            if self._paused:
                return
            if slot in bucket.arrived:
                raise HpcDlError(
                    "backward",
                    "it ran twice before the optimizer's step, so the first exchange would miss the second gradient",
                    "wrap all but the last backward of a step in `with exchange.paused():`",
                )
            self._finished = False
            bucket.arrived.add(slot)
            bucket.missing -= 1
            while self._next < len(self.buckets) and self.buckets[self._next].missing == 0:
                self._launch(self.buckets[self._next])
                self._next += 1

        return arrived

    @torch.no_grad()
    def _launch(self, bucket: Bucket) -> None:
        """Fill a bucket and start its sum."""
        flags = [self._scale] * len(bucket.parameters)
        for slot, (parameter, view) in enumerate(zip(bucket.parameters, bucket.views, strict=True)):
            if parameter.grad is None:
                view.zero_()
                flags[slot] = 0.0
            else:
                _scale_into(parameter.grad, self._scale, view)
        bucket.taken = [_state(p.grad, view) for p, view in zip(bucket.parameters, bucket.views, strict=True)]
        if all(flags):
            bucket.flags.fill_(self._scale)
        elif len(bucket.flags):
            bucket.flags.copy_(torch.tensor(flags, dtype=bucket.flags.dtype))
        if self._wire_dtype is not None and bucket.flat.dtype.itemsize > self._wire_dtype.itemsize:
            bucket.wire = bucket.flat.to(self._wire_dtype)
        bucket.work = self._start(bucket.flat if bucket.wire is None else bucket.wire, bucket.name)

    def _collect(self, bucket: Bucket) -> None:
        """Wait for a bucket's sum and hand its gradients out."""
        if bucket.work is not None:
            bucket.work.wait()
        _refuse_changed(bucket)
        if bucket.wire is not None:
            bucket.flat.copy_(bucket.wire)
        if self._scale_back != 1.0:
            bucket.flat.mul_(self._scale_back)
        for slot, (parameter, view) in enumerate(zip(bucket.parameters, bucket.views, strict=True)):
            # Only a rank without the gradient has to look (and so wait for the device) whether another rank had it.
            if parameter.grad is not None or not len(bucket.flags) or bucket.flags[slot] != 0:
                parameter.grad = view
        bucket.work = bucket.wire = None
        bucket.taken = []
        bucket.arrived.clear()
        bucket.missing = len(bucket.parameters)


def make_buckets(
    parameters: list[Parameter], bucket_bytes: int, least: int = 1, flagged: bool = True, name: str = "gradients"
) -> list[Bucket]:
    """Cut parameters into buckets of one type on one device, the last registered first.

    A bucket holds at most `bucket_bytes`, and the `least`-th part of all, unless a single parameter is larger.
    """
    bucket_bytes = min(bucket_bytes, _bytes(parameters) // least)
    groups: list[list[Parameter]] = []
    filling: dict[tuple[torch.dtype, torch.device], list[Parameter]] = {}
    for parameter in reversed(parameters):
        group = filling.get((parameter.dtype, parameter.device))
        limit = min(FIRST_BUCKET_BYTES, bucket_bytes) if group is not None and group is groups[0] else bucket_bytes
        if group is None or _bytes([*group, parameter]) > limit:
            group = filling[parameter.dtype, parameter.device] = []
            groups.append(group)
        group.append(parameter)
    return [_bucket(f"{name}.{number}", group, flagged) for number, group in enumerate(groups)]


def _bytes(parameters: list[Parameter]) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in parameters)


def _bucket(name: str, parameters: list[Parameter], flagged: bool) -> Bucket:
    elements = sum(parameter.numel() for parameter in parameters)
    flat = torch.zeros(elements + flagged * len(parameters), dtype=parameters[0].dtype, device=parameters[0].device)
    parts = flat[:elements].split([parameter.numel() for parameter in parameters])
    views = [_like(part, parameter) for part, parameter in zip(parts, parameters, strict=True)]
    return Bucket(name, parameters, flat, views, flat[elements:], missing=len(parameters))


def _like(part: Tensor, parameter: Parameter) -> Tensor:
    """The flat part in the parameter's shape, and in its memory format where that is dense (channels_last is)."""
    dense = torch.empty_like(parameter, device="meta", memory_format=torch.preserve_format)
    if parameter.stride() == dense.stride():
        return part.as_strided(parameter.size(), parameter.stride())
    return part.view(parameter.size())


def _scale_into(gradient: Tensor, scale: float, view: Tensor) -> None:
    if gradient.layout is not torch.strided:
        raise HpcDlError("gradient exchange", "a gradient is sparse", "build embeddings with sparse=False")
    if gradient.data_ptr() == view.data_ptr() and gradient.stride() == view.stride():
        view.mul_(scale)
    else:
        torch.mul(gradient, scale, out=view)


def _scales(world_size: int, wire_dtype: torch.dtype | None, adasum: bool) -> tuple[float, float]:
    """Factors before and after the sum, 1 / world size together.

    fp16 has no room for small numbers: a gradient of 1e-4 divided by 4,096 is zero. Half of the division comes after.
    """
    if adasum:
        return 1.0, 1.0
    if wire_dtype == torch.float16:
        return world_size**-0.5, world_size**-0.5
    return 1.0 / world_size, 1.0


def _state(gradient: Tensor | None, view: Tensor) -> tuple[Tensor, int | None] | None:
    """The gradient and its version; one that lies in the bucket is changed by the sum itself, so it has none."""
    if gradient is None:
        return None
    return gradient, None if gradient.data_ptr() == view.data_ptr() else gradient._version


def _refuse_changed(bucket: Bucket) -> None:
    """Clipping or unscaling a gradient under way would be lost: the sum of what was sent takes its place."""
    for parameter, taken in zip(bucket.parameters, bucket.taken, strict=True):
        if taken is not None and (parameter.grad is not taken[0] or taken[1] not in (None, taken[0]._version)):
            raise HpcDlError(
                "the optimizer's step",
                "gradients were changed (clipped, unscaled) after backward and before they were averaged",
                "call session.exchange.finish() right after backward, and change them then",
            )
