# SPDX-License-Identifier: Apache-2.0
"""Broadcast of many tensors as a few flat byte buffers, whatever their type and memory format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from hpc_dl.comm.base import Engine

CHUNK_BYTES = 64 * 2**20


@torch.no_grad()
def broadcast_tensors(engine: Engine, tensors: Iterable[Tensor], root: int = 0) -> None:
    """Overwrite the tensors with the root's, in place.

    Elements travel in logical order, so the ranks' memory formats may differ.
    """
    if engine.world_size == 1:
        return
    for number, chunk in enumerate(_chunks(tensors)):
        flat = torch.cat([tensor.reshape(-1) for tensor in chunk])
        engine.broadcast_bytes(flat.view(torch.uint8), root, f"broadcast.{number}")
        for tensor, part in zip(chunk, flat.split([tensor.numel() for tensor in chunk]), strict=True):
            tensor.copy_(part.view(tensor.shape))


def _chunks(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Tensors of one type and device together, up to `CHUNK_BYTES`."""
    groups: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
    for tensor in tensors:
        group = groups.setdefault((tensor.dtype, tensor.device), [])
        if group and sum(map(_bytes, group)) + _bytes(tensor) > CHUNK_BYTES:
            yield group.copy()
            group.clear()
        group.append(tensor)
    yield from (group for group in groups.values() if group)


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
