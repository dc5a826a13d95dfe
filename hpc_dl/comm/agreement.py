# SPDX-License-Identifier: Apache-2.0
"""Are the ranks still training the same model? Checksums of its tensors, compared.

Ranks drift apart by a fault (memory, a library, a layer that updates itself from local samples), never by design: a
drifted model trains on, and its loss looks almost right. The check costs one pass over the parameters and one small
maximum over ranks; only where that differs, tensors are compared one by one.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hpc_dl.comm.base import Engine
from hpc_dl.errors import HpcDlError

WORDS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64, 16: torch.int64}
"""Integer type by element size, to read the very bits."""

CHUNK_WORDS = 2**18
"""Summed at a time: small enough for a cache, and many small tensors in one go."""

RAREST_STEPS = 1024
"""Unless told otherwise, ranks compare after 1, 2, 4, 8, ... steps, and from here on every so many."""


def is_due(step: int, every: int | None) -> bool:
    """Is a comparison due at this step (the first is 1); every: 0 for never, None for ever more rarely."""
    if every is None:
        return step % RAREST_STEPS == 0 or (step < RAREST_STEPS and step & (step - 1) == 0)
    return every > 0 and step % every == 0


def check_agreement(model: nn.Module, engine: Engine, step: int) -> None:
    """Compare parameters and buffers over ranks, bit by bit. All ranks call it.

    Raises:
        HpcDlError: On all ranks; names the tensors and the ranks that hold another value than most.
    """
    compare_tensors(compared(model), engine, step)


@torch.no_grad()
def compare_tensors(named: Mapping[str, Tensor], engine: Engine, step: int) -> None:
    """As `check_agreement`, for any tensors with names."""
    if not named:
        return
    if not _differing([checksum(named.values())], engine).any():
        return
    sums = [checksum([tensor]) for tensor in named.values()]
    differing = _differing(sums, engine).nonzero().flatten().tolist()
    names = list(named)
    everybody = engine.gather([int(sums[number]) for number in differing])
    ranks = engine.broadcast(None if everybody is None else _odd_ones(everybody))
    what = ", ".join(names[number] for number in differing[:5]) + (" and more" if len(differing) > 5 else "")
    raise HpcDlError(
        f"the same model on all ranks after step {step}",
        f"{what} differ on rank {', '.join(map(str, ranks))}",
        "look for a layer that changes itself outside of the optimizer (max_norm does) or a faulty node; resume from "
        "the checkpoint before this step",
    )


def _differing(sums: Sequence[Tensor], engine: Engine) -> Tensor:
    """Which of them are not the same on all ranks (bool)."""
    own = torch.stack(list(sums))
    extremes = engine.reduce(torch.cat([own, ~own]), "max", "agreement")
    return extremes[: len(own)] != ~extremes[len(own) :]


def checksum(tensors: Iterable[Tensor]) -> Tensor:
    """A 64-bit sum of the tensors' bits, each word weighted by an odd number that depends on its place; on the host."""
    alike: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
    for tensor in tensors:
        words = tensor.detach().contiguous().view(-1).view(WORDS[tensor.element_size()])
        alike.setdefault((words.device, words.dtype), []).append(words)
    total = torch.zeros((), dtype=torch.int64)
    for (device, _), parts in alike.items():
        weights = _weights(device, CHUNK_WORDS)
        sums = [(words * weights[: len(words)]).sum() * (2 * chunk + 1) for chunk, words in enumerate(_chunks(parts))]
        total += torch.stack(sums).sum().cpu()
    return total


def _chunks(parts: Iterable[Tensor]) -> Iterator[Tensor]:
    """The words of all parts, up to CHUNK_WORDS at a time."""
    waiting: list[Tensor] = []
    size = 0
    for piece in (piece for part in parts for piece in part.split(CHUNK_WORDS)):
        if size + len(piece) > CHUNK_WORDS:
            yield from _wide(torch.cat(waiting))
            waiting, size = [], 0
        waiting.append(piece)
        size += len(piece)
    yield from _wide(torch.cat(waiting))


def _wide(words: Tensor) -> Iterator[Tensor]:
    """The same bits in words of 64, which are as fast to sum as shorter ones, and what is left over."""
    whole = len(words) - len(words) % (8 // words.element_size())
    yield words[:whole].view(torch.int64)
    if whole < len(words):
        yield words[whole:]


@functools.lru_cache(maxsize=2)
def _weights(device: torch.device, words: int) -> Tensor:
    return torch.arange(words, device=device) * 0x9E3779B1 | 1


def compared(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name.

    Running statistics of batch normalisation over local batches are left out: they follow each rank's own samples.
    """
    local = {
        id(buffer)
        for module in model.modules()
        if isinstance(module, _BatchNorm) and not getattr(module, "over_all_ranks", False)
        for buffer in module.buffers(recurse=False)
        if buffer.is_floating_point()
    }
    buffers = {name: buffer for name, buffer in model.named_buffers() if id(buffer) not in local}
    return {**dict(model.named_parameters()), **buffers}


def _odd_ones(sums: list[list[int]]) -> list[int]:
    """Ranks whose values are not the most frequent ones; without a majority, those that differ from rank 0."""
    keys = [tuple(values) for values in sums]
    usual = max(dict.fromkeys(keys), key=keys.count)
    return [rank for rank, key in enumerate(keys) if key != usual]
