# SPDX-License-Identifier: Apache-2.0
"""Streams of unknown and unequal length: an end for all ranks at once."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import TypeVar

import torch
from torch import Tensor

from hpc_dl.comm.base import Engine, Work

Item = TypeVar("Item")


def until_any_ends(engine: Engine, batches: Iterable[Item]) -> Iterator[Item]:
    """The batches of this rank until some rank has none left; see `Session.until_any_ends`."""
    waiting = iter(batches)

    def ask() -> tuple[list[Item], Tensor, Work]:
        item = list(itertools.islice(waiting, 1))
        there = torch.tensor([float(len(item))])
        return item, there, engine.reduce_async(there, "min", "until_any_ends")

    item, there, work = ask()
    work.wait()
    while there.item():
        current = item
        item, there, work = ask()
        yield from current
        work.wait()
