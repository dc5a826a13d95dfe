# SPDX-License-Identifier: Apache-2.0
"""Buckets: some parameters each, and the flat tensor their gradients travel in.

A bucket ends with one flag per parameter, summed along with the gradients: a parameter that got a gradient on no rank
keeps `.grad = None` and is left alone by the optimizer, as in a run on one process. Complex gradients travel as pairs
of real numbers. The first bucket may carry a heading behind the flags (`weights.py`), which saves a sum of its own.

Gradients are handed out as views of the flat tensor, which is used again only when nobody looks at it any more: a
gradient that is kept (accumulated into, put aside by the user) stays what it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter

from hpc_dl.comm.base import Work
from hpc_dl.errors import HpcDlError

FIRST_BUCKET_BYTES = 2**20
"""The first bucket is smaller, so that the first sum starts early (as in torch's DistributedDataParallel)."""

PIECE_BYTES = 2**30
"""A larger flat tensor travels in pieces: MPI counts in 32 bits."""

Start = Callable[[Tensor, str], Work]


class Scales(NamedTuple):
    """Factors before and after the sum."""

    before: float
    after: float = 1.0


def scales_of(world_size: int, wire_dtype: torch.dtype | None, adasum: bool) -> Scales:
    """1 / world size, before the sum.

    fp16 has no room for small numbers: a gradient of 1e-4 divided by 4,096 is zero. Half of the division comes after.
    """
    if adasum:
        return Scales(1.0)
    if wire_dtype == torch.float16:
        return Scales(world_size**-0.5, world_size**-0.5)
    return Scales(1.0 / world_size)


class Flat:
    """A flat tensor with the parameters' views of it and, at its end, their flags and the numbers of a heading."""

    def __init__(self, parameters: list[Parameter], flagged: bool, heading: int) -> None:
        sizes = [_real(parameter).numel() for parameter in parameters]
        dtype, device = _real(parameters[0]).dtype, parameters[0].device
        flags = flagged * len(parameters)
        self.tensor = torch.zeros(sum(sizes) + flags + heading, dtype=dtype, device=device)
        self.flags = self.tensor[sum(sizes) : sum(sizes) + flags]
        self.heading = self.tensor[sum(sizes) + flags :].numpy() if heading else None
        """The same memory, on the host: NumPy reads and writes single numbers in a tenth of torch's time."""
        parts = self.tensor[: sum(sizes)].split(sizes)
        self.views = [_like(part, parameter) for part, parameter in zip(parts, parameters, strict=True)]
        del parts
        self._storage = self.tensor.untyped_storage()
        self._own_uses = self._uses()

    def _uses(self) -> int:
        return int(torch._C._storage_Use_Count(self._storage._cdata))

    def is_free(self) -> bool:
        """Does nobody else look at it?"""
        return self._uses() <= self._own_uses

    def lies_in(self, gradient: Tensor | None, slot: int) -> bool:
        """Is this a gradient that was handed out from here?"""
        return gradient is not None and gradient.data_ptr() == self.views[slot].data_ptr()


@dataclass(eq=False)
class Bucket:
    """Some parameters of one type on one device, on their way through one exchange after the other."""

    name: str
    parameters: list[Parameter]
    flagged: bool = True
    """False where nothing may travel beside the gradients; missing ones then count as zero."""
    heading: int = 0
    """Numbers of a heading that travels with it."""
    missing: int = 0
    """Gradients that have not arrived in this backward."""
    arrived: set[int] = field(default_factory=set)
    flats: list[Flat] = field(default_factory=list)
    """The one in use last, and a second one once a gradient was kept."""
    works: list[Work] = field(default_factory=list)
    handed_out: bool = False
    """Did the last exchange give a gradient?"""
    wire: Tensor | None = None
    """The flat tensor in the type it travels in, where gradients are compressed."""

    def __post_init__(self) -> None:
        self.flats.append(Flat(self.parameters, self.flagged, self.heading))

    @property
    def flat(self) -> Flat:
        return self.flats[0]

    def begin(self) -> None:
        """Wait for all gradients but those of parameters that are frozen now."""
        self.missing = sum(parameter.requires_grad for parameter in self.parameters)

    def launch(
        self, start: Start, scales: Scales, wire_dtype: torch.dtype | None, heading: Sequence[float] = ()
    ) -> None:
        """Fill the flat tensor with this rank's gradients, and its heading, and start its sum."""
        self._take_a_free_flat()
        self._fill(scales.before)
        if self.flat.heading is not None:
            self.flat.heading[:] = heading
        travelling = self._on_the_wire(wire_dtype)
        self.wire = None if travelling is self.flat.tensor else travelling
        self._start(travelling, start)

    def launch_nothing(
        self, start: Start, wire_dtype: torch.dtype | None, heading: Sequence[float] = (), of: float = torch.nan
    ) -> None:
        """Take part in a sum without gradients. Where they were lost, no rank is to go on with what is left: NaN."""
        self.wire = torch.full_like(self._on_the_wire(wire_dtype), of)
        if self.heading:
            self.wire[-self.heading :] = torch.tensor(heading)
        self._start(self.wire, start)

    def wait(self) -> None:
        """Until the sum is there."""
        for work in self.works:
            work.wait()
        self.works = []

    def received_heading(self) -> Any:
        """The numbers that came with the sum."""
        return self.flat.heading if self.wire is None else self.wire[-self.heading :].numpy()

    def hand_out(self, scales: Scales, factor: Tensor | float | None = None) -> None:
        """Make the sum, times the factor, the parameters' gradients."""
        flat = self.flat
        if self.wire is not None:
            flat.tensor.copy_(self.wire)
            self.wire = None
        if scales.after != 1.0:
            flat.tensor.mul_(scales.after)
        if factor is not None:
            flat.tensor.mul_(factor)
        self.handed_out = False
        for slot, (parameter, view) in enumerate(zip(self.parameters, flat.views, strict=True)):
            # Only a rank without the gradient has to look (and so wait for the device) whether another rank had it.
            if parameter.grad is not None or not self.flagged or flat.flags[slot] != 0:
                parameter.grad = view.detach()  # one more tensor that looks at the flat one, as long as it lives
                self.handed_out = True

    def holds_gradients(self) -> bool:
        """Is one of the gradients that were handed out still in its place?"""
        return any(self.flat.lies_in(parameter.grad, slot) for slot, parameter in enumerate(self.parameters))

    def _take_a_free_flat(self) -> None:
        if self.flat.is_free():
            return
        spare = self.flats[1] if len(self.flats) > 1 else None
        if spare is None or not spare.is_free():
            spare = Flat(self.parameters, self.flagged, self.heading)
        self.flats = [spare, self.flat]

    def _on_the_wire(self, wire_dtype: torch.dtype | None) -> Tensor:
        flat = self.flat.tensor
        narrower = wire_dtype is not None and flat.dtype.itemsize > wire_dtype.itemsize
        return flat.to(wire_dtype) if narrower else flat

    def _fill(self, scale: float) -> None:
        flags = [scale] * len(self.parameters)
        for slot, (parameter, view) in enumerate(zip(self.parameters, self.flat.views, strict=True)):
            gradient = parameter.grad
            if gradient is None:
                view.zero_()
                flags[slot] = 0.0
            elif gradient.layout is not torch.strided:
                raise HpcDlError("gradient exchange", "a gradient is sparse", "build embeddings with sparse=False")
            else:
                torch.mul(gradient, scale, out=view)
        if not self.flagged:
            return
        if all(flags):
            self.flat.flags.fill_(scale)
        else:
            self.flat.flags.copy_(torch.tensor(flags, dtype=self.flat.flags.dtype))

    def _start(self, tensor: Tensor, start: Start) -> None:
        if tensor.nbytes <= PIECE_BYTES or not self.flagged:
            self.works = [start(tensor, self.name)]
            return
        pieces = tensor.split(PIECE_BYTES // tensor.element_size())
        names = [self.name] + [f"{self.name}.{number}" for number in range(1, len(pieces))]
        self.works = [start(piece, name) for piece, name in zip(pieces, names, strict=True)]


def make_buckets(
    parameters: list[Parameter],
    bucket_bytes: int,
    least: int = 1,
    flagged: bool = True,
    name: str = "gradients",
    heading: int = 0,
) -> list[Bucket]:
    """Cut parameters into buckets of one type on one device, the last registered first.

    A bucket holds at most `bucket_bytes`, and the `least`-th part of all, unless a single parameter is larger. The
    first has room for the numbers of a heading.
    """
    bucket_bytes = min(bucket_bytes, _bytes(parameters) // least)
    groups: list[list[Parameter]] = []
    filling: dict[tuple[torch.dtype, torch.device], list[Parameter]] = {}
    for parameter in reversed(parameters):
        kind = (parameter.dtype, parameter.device)
        group = filling.get(kind)
        limit = min(FIRST_BUCKET_BYTES, bucket_bytes) if group is not None and group is groups[0] else bucket_bytes
        if group is None or _bytes([*group, parameter]) > limit:
            group = filling[kind] = []
            groups.append(group)
        group.append(parameter)
    return [Bucket(f"{name}.{n}", group, flagged, 0 if n else heading) for n, group in enumerate(groups)]


def _real(parameter: Parameter) -> Tensor:
    """A complex number as a pair of real ones."""
    return torch.view_as_real(parameter.detach()) if parameter.is_complex() else parameter


def _bytes(parameters: Iterable[Parameter]) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in parameters)


def _like(part: Tensor, parameter: Parameter) -> Tensor:
    """The flat part in the parameter's shape, and in its memory format where that is dense (channels_last is)."""
    if parameter.is_complex():
        part = torch.view_as_complex(part.view(-1, 2))
    dense = torch.empty_like(parameter, device="meta", memory_format=torch.preserve_format)
    if parameter.stride() == dense.stride():
        return part.as_strided(parameter.size(), parameter.stride())
    return part.view(parameter.size())
