# SPDX-License-Identifier: Apache-2.0
"""Broadcast of many tensors as a few flat byte buffers, whatever their type and memory format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hpc_dl.comm.base import Engine

CHUNK_BYTES = 64 * 2**20


@torch.no_grad()
def broadcast_tensors(engine: Engine, tensors: Iterable[Tensor], root: int = 0) -> None:
    """Overwrite the tensors, of any type and size, with the root's, in place.

    Elements travel in logical order, so the ranks' memory formats may differ.
    """
    if engine.world_size == 1:
        return
    tensors = list(tensors)
    plain = [tensor.detach().contiguous() for tensor in tensors]
    for number, pieces in enumerate(_chunks(plain)):
        flat = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
        engine.broadcast_bytes(flat, root, f"broadcast.{number}")
        if len(pieces) > 1:
            for piece, part in zip(pieces, flat.split([len(piece) for piece in pieces]), strict=True):
                piece.copy_(part)
    for tensor, arrived in zip(tensors, plain, strict=True):
        if not tensor.is_contiguous():
            tensor.copy_(arrived)


def broadcast_state(engine: Engine, state: Any, root: int = 0) -> Any:
    """The root's nested dictionaries and lists of tensors and plain values, on every rank; tensors arrive on the CPU.

    Only the structure is pickled; tensors travel in chunks, so a state may be larger than an engine's largest object.
    """
    tensors: list[Tensor] = []
    skeleton = engine.broadcast(_without_tensors(state, tensors) if engine.rank == root else None, root)
    if engine.rank != root:
        skeleton = _with_tensors(skeleton, tensors)
    broadcast_tensors(engine, tensors, root)
    return state if engine.rank == root else skeleton


class _Hole(NamedTuple):
    """Where a tensor was."""

    shape: tuple[int, ...]
    dtype: torch.dtype


def _without_tensors(value: Any, tensors: list[Tensor]) -> Any:
    if isinstance(value, Tensor):
        tensors.append(value.detach().cpu())
        return _Hole(tuple(value.shape), value.dtype)
    if isinstance(value, dict):
        return {key: _without_tensors(item, tensors) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_tensors(item, tensors) for item in value]
    return value


def _with_tensors(value: Any, tensors: list[Tensor]) -> Any:
    """Fills the holes with new tensors, in the order they were made."""
    if isinstance(value, _Hole):
        tensors.append(torch.empty(value.shape, dtype=value.dtype))
        return tensors[-1]
    if isinstance(value, dict):
        return {key: _with_tensors(item, tensors) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_tensors(item, tensors) for item in value]
    return value


def _chunks(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """The tensors' bytes, those of a device together, in order and at most `CHUNK_BYTES` at a time."""
    groups: dict[torch.device, list[Tensor]] = {}
    for tensor in tensors:
        group = groups.setdefault(tensor.device, [])
        for piece in tensor.view(-1).view(torch.uint8).split(CHUNK_BYTES) if tensor.numel() else ():
            if group and sum(map(len, group)) + len(piece) > CHUNK_BYTES:
                yield group.copy()
                group.clear()
            group.append(piece)
    yield from (group for group in groups.values() if group)
