# SPDX-License-Identifier: Apache-2.0
"""Do all ranks mean the same, before they train? Compared by one number per rank; a difference is named in a sentence.

Ranks that build another model, read other data or were started with other settings train on wrong numbers or wait for
ever. What is compared is a list of named facts; its hash goes through one small maximum over ranks. Only where hashes
differ do facts travel.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

import hpc_dl
from hpc_dl.comm.base import Engine
from hpc_dl.comm.optimizer_hooks import trained_parameters
from hpc_dl.data.base import Data, Source
from hpc_dl.data.batch import leaves
from hpc_dl.data.seeds import seed_all
from hpc_dl.errors import HpcDlError
from hpc_dl.settings import ExchangeSettings, Settings

Facts = Mapping[str, str]
"""Values by name, in an order that counts, too."""
OWN_BUSINESS = ("data.workers", "device.threads", "log.folder", "log.progress", "exchange.timeout_seconds")
"""Settings that may differ from rank to rank."""


def models(engine: Engine, model: nn.Module, optimizer: torch.optim.Optimizer, exchange: ExchangeSettings) -> None:
    """Compare versions, parameters and buffers of a model (names, order, shapes, types), what an optimizer holds of
    them, and how gradients travel. All ranks call it.

    Raises:
        HpcDlError: On all ranks; names the first difference and the rank.
    """
    if engine.world_size == 1:
        return
    facts = {
        "torch": torch.__version__,
        "hpc_dl": hpc_dl.__version__,
        **{f"parameter {name}": _shown(value) for name, value in model.named_parameters()},
        **{f"buffer {name}": _shown(value) for name, value in model.named_buffers()},
        **_held(model, optimizer),
        **_named(exchange, "exchange"),
    }
    compare(engine, "the same model on all ranks", facts, "build model and optimizer in the same way on every rank")


def data(engine: Engine, both: Data) -> None:
    """Compare how many samples there are, and some of them. All ranks call it.

    Raises:
        HpcDlError: On all ranks; names the first difference and the rank.
    """
    if engine.world_size == 1:
        return
    parts = {"training": both.train, "evaluation": both.evaluation}
    facts = {f"the number of {name} samples": str(len(source)) for name, source in parts.items()}
    facts |= {f"the content of {name} samples": _content(source) for name, source in parts.items()}
    compare(engine, "the same data on all ranks", facts, "look for an unfinished copy or an old folder on its node")


def settings(engine: Engine, mine: Settings) -> None:
    """Compare the settings of a run. All ranks call it.

    Raises:
        HpcDlError: On all ranks; names the first difference and the rank.
    """
    compare(engine, "the same settings on all ranks", _named(mine), "start all ranks with the same file and flags")


def compare(engine: Engine, asked: str, facts: Facts, remedy: str) -> None:
    """Refuse where the facts of some rank are not those of the others. All ranks call it.

    Args:
        engine: Started.
        asked: What is asked for, for the error.
        facts: Of this rank.
        remedy: What to do about a difference.
    """
    if engine.world_size == 1:
        return
    mine = _hash(facts)
    largest, smallest = engine.reduce(torch.tensor([mine, -mine]), "max", "compare").tolist()
    if largest == -smallest:
        return
    everybody = engine.gather(mine)
    usual, odd = engine.broadcast(None if everybody is None else _usual_and_odd(everybody))
    theirs, others = engine.broadcast(dict(facts), root=odd), engine.broadcast(dict(facts), root=usual)
    raise HpcDlError(asked, _first_difference(theirs, others, f"rank {odd}", f"rank {usual}"), remedy)


def _hash(facts: Facts) -> int:
    """63 bits, so that the negative exists."""
    text = "\n".join(f"{name}\t{value}" for name, value in facts.items())
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def _usual_and_odd(hashes: list[int]) -> tuple[int, int]:
    """The first rank that is like most (or like rank 0), and the first that is not like it."""
    counts = Counter(hashes)  # in order of rank, which decides between equals
    usual = hashes.index(counts.most_common(1)[0][0])
    return usual, next(rank for rank, value in enumerate(hashes) if value != hashes[usual])


def _first_difference(odd: Facts, usual: Facts, who: str, others: str) -> str:
    for mine, theirs in zip(odd.items(), usual.items(), strict=False):
        if mine[0] == theirs[0] and mine[1] != theirs[1]:
            return f"{mine[0]} is {mine[1]} on {who}, {theirs[1]} on {others}"
        if mine[0] != theirs[0]:
            break
    for name in usual:
        if name not in odd:
            return f"{name} is missing on {who}, which {others} has"
    for name in odd:
        if name not in usual:
            return f"{name} is on {who} only, {others} has none"
    names = next((mine, theirs) for mine, theirs in zip(odd, usual, strict=True) if mine != theirs)
    return f"{names[0]} comes on {who} where {names[1]} comes on {others}"


def _shown(value: Tensor) -> str:
    if is_lazy(value):
        return "not initialised"
    frozen = ", frozen" if isinstance(value, nn.Parameter) and not value.requires_grad else ""
    return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}{frozen}"


def _held(model: nn.Module, optimizer: torch.optim.Optimizer) -> Facts:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    held = [
        names.get(id(parameter), f"one outside the model, {_shown(parameter)}")
        for parameter in trained_parameters(optimizer)
    ]
    return {
        "the optimizer": type(optimizer).__name__,
        **{f"parameter {number} of the optimizer": name for number, name in enumerate(held)},
    }


def _named(group: Any, prefix: str = "") -> Facts:
    """Every setting by its name, as flags have it."""
    facts: dict[str, str] = {}
    for name, value in vars(group).items():
        full = f"{prefix}.{name}" if prefix else name
        if is_dataclass(value):
            facts |= _named(value, full)
        elif full not in OWN_BUSINESS:
            facts[full] = repr(value)
    return facts


def _content(source: Source) -> str:
    """A few samples in a word; only their shapes where a source of random numbers is its own."""
    if not len(source):
        return "nothing"
    indices = np.unique(np.array([0, len(source) // 2, len(source) - 1], dtype=np.int64))

    def summary(of_leaf: Callable[[Any], str]) -> str:
        seed_all(0)
        return ", ".join(map(of_leaf, leaves(source.batch(indices))))

    first, again = summary(_summary), summary(_summary)
    return first if first == again else summary(_kind)


def _summary(leaf: Any) -> str:
    """What a leaf is, and its content; not that of other objects, whose text may name an address."""
    if isinstance(leaf, np.ndarray) and leaf.dtype.kind in "biufc":
        leaf = torch.from_numpy(leaf)
    if isinstance(leaf, Tensor):
        return f"{_shown(leaf)} with checksum {_checksum(leaf)}"
    return repr(leaf) if isinstance(leaf, str | int | float | bool | None) else _kind(leaf)


def _kind(leaf: Any) -> str:
    return _shown(leaf) if isinstance(leaf, Tensor) else type(leaf).__name__


def _checksum(values: Tensor) -> str:
    """To a few digits: the same file read on another kind of processor may differ in the last bits of a float."""
    flat = values.detach().reshape(-1).to(torch.complex128 if values.is_complex() else torch.float64).abs()
    weights = torch.linspace(1, 2, len(flat), dtype=torch.float64, device=flat.device)
    return f"{float(flat @ weights):.5g}"
