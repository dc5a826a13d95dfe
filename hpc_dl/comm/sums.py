# SPDX-License-Identifier: Apache-2.0
"""The sums of an exchange: its buckets, started in one fixed order on all ranks, and the heading of the first.

On CPUs the first bucket carries the heading (`weights.py`); elsewhere it travels beside it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import Parameter

from hpc_dl.comm.base import Engine
from hpc_dl.comm.buckets import Bucket, make_buckets, scales_of
from hpc_dl.comm.weights import Heading, Weights


class Sums:
    """Of the gradients of some parameters; on a lane of their own, so that an engine without negotiation cannot mix
    them up with others.

    Args:
        engine: Sums a flat tensor.
        weights: Of the passes of the mean under way.
        bucket_bytes: About how much is summed at a time; 0 gives each parameter a bucket of its own.
        wire_dtype: Type of the gradients on the wire, None for their own.
        adasum: Horovod's adaptive sum in place of the mean.
        name: The same on all ranks.
    """

    def __init__(
        self,
        engine: Engine,
        weights: Weights,
        bucket_bytes: int,
        wire_dtype: torch.dtype | None,
        adasum: bool,
        name: str,
    ) -> None:
        self._weights, self._name, self._wire_dtype, self._adasum = weights, name, wire_dtype, adasum
        self._world_size, self._least_buckets = engine.world_size, engine.least_buckets
        self._lane = engine.lane()
        sum_async = lambda flat, bucket: self._lane.reduce_async(flat, "sum", bucket)  # noqa: E731
        self._start = self._lane.adasum_async if adasum else sum_async
        self._scales = scales_of(engine.world_size, wire_dtype, adasum)
        # Adasum weighs whole tensors against each other: each its own bucket, with nothing beside it.
        self._bucket_bytes = 0 if adasum else bucket_bytes
        self._heading_rides = False
        self.buckets: list[Bucket] = []
        self.launched = 0
        """Buckets whose sums have been started in this round."""
        self.heading: Heading

    def take(self, trained: list[Parameter]) -> None:
        """Put these parameters into buckets."""
        self._heading_rides = bool(trained) and self._wire_dtype is None and not self._adasum and _bears(trained[-1])
        self.buckets = make_buckets(
            trained,
            self._bucket_bytes,
            self._least_buckets,
            flagged=not self._adasum,
            name=self._name,
            heading=self._heading_rides * Heading.NUMBERS,
        )
        gradients = self.buckets[0].flat.tensor if self.buckets else torch.zeros(0)
        self.heading = Heading(self._lane, f"{self._name}.heading", self._world_size, gradients)

    def begin(self) -> None:
        """A round has begun, and nothing has been sent yet."""
        for bucket in self.buckets:
            bucket.begin()
        self.launched = 0

    def launch_full(self, steps: int) -> None:
        """Start the sums of all buckets that are full, up to the first that is not."""
        while self.launched < len(self.buckets) and not self.buckets[self.launched].missing:
            heading = () if self.launched else self._send_heading(steps)
            self._launch(self.buckets[self.launched], False, heading)

    @torch.no_grad()
    def launch_rest(self, steps: int, lost: bool, keeps: bool) -> None:
        """Start what has not been started.

        Args:
            steps: Done so far by this rank.
            lost: An error has left the gradients incomplete.
            keeps: This rank has nothing but gradients of a mean before; they count unless other ranks give weights.
        """
        heading = () if self.launched else self._send_heading(steps, keeps)
        if keeps:
            self._hear(lost, heading)
            if self.heading.weighted():
                self._weights.put_aside(p for bucket in self.buckets for p in bucket.parameters)
        for bucket in self.buckets[self.launched :]:
            self._launch(bucket, lost, heading)

    @torch.no_grad()
    def hear(self, steps: int, lost: bool) -> None:
        """Wait for the heading; where it had misled a rank, its bucket travels once more."""
        self._hear(lost)
        if self._heading_rides and self.heading.misled():  # once more, without the gradients of a mean before
            self.launched = 0
            self._hear(lost, self._send_heading(steps))

    def wait(self) -> None:
        """For all sums, whose numbers nobody wants."""
        for bucket in self.buckets:
            bucket.wait()

    @torch.no_grad()
    def hand_out(self, factor: torch.Tensor | float | None) -> None:
        """Wait for the sums, and make them, times the factor, the gradients."""
        for bucket in self.buckets:
            bucket.wait()
            bucket.hand_out(self._scales, factor)

    def compare_steps(self, steps: int) -> None:
        """Refuse to go on where ranks are not at the same step, in what a backward of a rank elsewhere would send."""
        if self._heading_rides:
            numbers = self.heading.numbers(None, steps)
            self.buckets[0].launch_nothing(self._start, self._wire_dtype, numbers, of=0.0)
        else:
            self.heading.send(None, steps)
        self._hear(lost=False)
        self.heading.check(steps)

    def _send_heading(self, steps: int, keeps: bool = False) -> Sequence[float]:
        """Give the numbers to the first bucket, or send them beside it."""
        if self._heading_rides:
            return self.heading.numbers(self._weights.total, steps, keeps)
        self.heading.send(self._weights.total, steps)
        return ()

    def _hear(self, lost: bool, heading: Sequence[float] = ()) -> None:
        """Wait for the heading; with the numbers, start what carries it before."""
        if not self._heading_rides:
            self.heading.wait()
            return
        if heading:
            self._launch(self.buckets[0], lost, heading)
        self.buckets[0].wait()
        self.heading.read(self.buckets[0].received_heading())

    @torch.no_grad()
    def _launch(self, bucket: Bucket, lost: bool, heading: Sequence[float]) -> None:
        if lost:
            bucket.launch_nothing(self._start, self._wire_dtype, heading)
        else:
            bucket.launch(self._start, self._scales, self._wire_dtype, heading)
        self.launched += 1


def _bears(parameter: Parameter) -> bool:
    """Does a bucket of such parameters hold a heading exactly, where it can be looked at for nothing?"""
    exact = torch.promote_types(parameter.dtype, torch.float32) == parameter.dtype
    return parameter.device.type == "cpu" and exact
