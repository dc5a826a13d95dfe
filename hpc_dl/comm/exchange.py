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
    """

    def __init__(
        self,
        engine: Engine,
        parameters: Iterable[Parameter],
        bucket_bytes: int,
        wire_dtype: torch.dtype | None = None,
        adasum: bool = False,
    ) -> None:
        self._engine = engine
        self._wire_dtype = wire_dtype
        self._start = engine.adasum_async if adasum else self._sum_async
        self._scale = 1.0 if adasum else 1.0 / engine.world_size
        self._paused = False
        self._next = 0
        self._finished = False
        trainable = [p for p in dict.fromkeys(parameters) if p.requires_grad]
        # Adasum weighs whole tensors against each other: each its own bucket, with nothing beside it.
        self.buckets = make_buckets(trainable, 0 if adasum else bucket_bytes, flagged=not adasum)
        self._hooks = [
            parameter.register_post_accumulate_grad_hook(self._hook(bucket, slot))
            for bucket in self.buckets
            for slot, parameter in enumerate(bucket.parameters)
        ]

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

    def close(self) -> None:
        """Take the hooks off; gradients stay with the buckets."""
        for hook in self._hooks:
            hook.remove()

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
        if bucket.wire is not None:
            bucket.flat.copy_(bucket.wire)
        for slot, (parameter, view) in enumerate(zip(bucket.parameters, bucket.views, strict=True)):
            # Only a rank without the gradient has to look (and so wait for the device) whether another rank had it.
            if parameter.grad is not None or not len(bucket.flags) or bucket.flags[slot] != 0:
                parameter.grad = view
        bucket.work = bucket.wire = None
        bucket.arrived.clear()
        bucket.missing = len(bucket.parameters)


def make_buckets(parameters: list[Parameter], bucket_bytes: int, flagged: bool = True) -> list[Bucket]:
    """Cut parameters into buckets, the last registered first; a bucket holds one type on one device."""
    groups: list[list[Parameter]] = []
    filled = 0
    for parameter in reversed(parameters):
        size = parameter.numel() * parameter.element_size()
        limit = min(FIRST_BUCKET_BYTES, bucket_bytes) if len(groups) <= 1 else bucket_bytes
        fits = groups and filled + size <= limit and _alike(groups[-1][0], parameter)
        if not fits:
            groups.append([])
            filled = 0
        groups[-1].append(parameter)
        filled += size
    return [_bucket(f"gradients.{number}", group, flagged) for number, group in enumerate(groups)]


def _alike(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and one.device == other.device


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
