# SPDX-License-Identifier: Apache-2.0
"""Are the ranks still training the same model? Checksums of its tensors, compared; one value for running statistics.

Ranks drift apart by a fault (memory, a library, a layer that updates itself from local samples), never by design: a
drifted model trains on, and its loss looks almost right. The check costs one pass over the parameters and one small
maximum over ranks.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hpc_dl.comm.base import Engine
from hpc_dl.errors import HpcDlError

WORDS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64, 16: torch.int64}
"""Integer type by element size, to read the very bits."""

CHUNK_WORDS = 2**22
"""Summed at a time, so that checking a large embedding takes no multiple of its memory."""


@torch.no_grad()
def check_agreement(model: nn.Module, engine: Engine, step: int) -> None:
    """Compare parameters and buffers over ranks, bit by bit. All ranks call it.

    Running statistics of batch normalisation over local batches are left out: they follow each rank's own samples.

    Raises:
        HpcDlError: On all ranks; names the tensors and the ranks that hold another value than most.
    """
    named = dict(_compared(model))
    sums = torch.stack([checksum(tensor) for tensor in named.values()]).cpu()
    extremes = engine.reduce(torch.cat([sums, -sums]), "max", "agreement")
    largest, smallest = extremes[: len(sums)], -extremes[len(sums) :]
    differing = (largest != smallest).nonzero().flatten().tolist()
    if not differing:
        return
    names = list(named)
    everybody = engine.gather([int(sums[number]) for number in differing])
    ranks = engine.broadcast(None if everybody is None else _odd_ones(everybody))
    what = ", ".join(names[number] for number in differing[:5]) + (" and more" if len(differing) > 5 else "")
    raise HpcDlError(
        f"the same model on all ranks after step {step}",
        f"{what} differ on rank {', '.join(map(str, ranks))}",
        "look for a layer that changes itself outside of the optimizer or a faulty node; resume from the checkpoint "
        "before this step",
    )


def checksum(tensor: Tensor) -> Tensor:
    """A 64-bit sum of the tensor's bits, each word weighted by an odd number that depends on its place."""
    words = tensor.detach().contiguous().view(-1).view(WORDS[tensor.element_size()])
    total = torch.zeros((), dtype=torch.int64, device=words.device)
    for start in range(0, len(words), CHUNK_WORDS):
        part = words[start : start + CHUNK_WORDS].to(torch.int64)
        weights = torch.arange(start, start + len(part), device=words.device) * 0x9E3779B1 | 1
        total += (part * weights).sum()
    return total >> 1  # one bit off, so that the negative exists


@torch.no_grad()
def average_buffers(model: nn.Module, engine: Engine) -> None:
    """Give all ranks the mean of their floating-point buffers: running statistics then stand for all samples seen.

    Called before an evaluation and a checkpoint. All ranks call it.
    """
    buffers = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
    if engine.world_size == 1 or not buffers:
        return
    flat = torch.cat([buffer.reshape(-1).double() for buffer in buffers])
    mean = engine.average(flat, "buffers")
    for buffer, part in zip(buffers, mean.split([buffer.numel() for buffer in buffers]), strict=True):
        buffer.copy_(part.view(buffer.shape))


def _compared(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters()
    local = {
        id(buffer)
        for module in model.modules()
        if isinstance(module, _BatchNorm) and not getattr(module, "over_all_ranks", False)
        for buffer in module.buffers(recurse=False)
        if buffer.is_floating_point()
    }
    yield from ((name, buffer) for name, buffer in model.named_buffers() if id(buffer) not in local)


def _odd_ones(sums: list[list[int]]) -> list[int]:
    """Ranks whose values are not the most frequent ones; without a majority, those that differ from rank 0."""
    keys = [tuple(values) for values in sums]
    usual = max(dict.fromkeys(keys), key=keys.count)
    return [rank for rank, key in enumerate(keys) if key != usual]
