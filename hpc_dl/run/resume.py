# SPDX-License-Identifier: Apache-2.0
"""Going on from a checkpoint: its content goes into model and optimizer, and the samples ahead are those it expects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from hpc_dl.comm.base import Engine
from hpc_dl.comm.flat import broadcast_state
from hpc_dl.data.sharding import Plan
from hpc_dl.errors import HpcDlError
from hpc_dl.run.checkpoint import Checkpoints, Position

ORDER = ("training samples", "training.seed", "data.shuffle")
"""What decides the order of an epoch's samples."""


def order_of(plan: Plan) -> dict[str, int]:
    """What decides which samples the steps of an epoch take, by name; stored in every checkpoint."""
    return {
        "training samples": plan.samples,
        "global batch": plan.step_samples,
        "training.seed": plan.seed,
        "data.shuffle": plan.shuffle,
        "training.drop_last": plan.drop_last,
    }


def newest(checkpoints: Checkpoints, engine: Engine, must: bool) -> dict[str, Any] | None:
    """The newest whole checkpoint on all ranks, which rank 0 reads; None where there is none.

    Raises:
        HpcDlError: There is none and there must be one, or there is one that cannot be used.
    """
    content: dict[str, Any] | None = broadcast_state(engine, checkpoints.newest() if engine.rank == 0 else None)
    if content is None and must:
        raise HpcDlError("checkpoint.resume = 'must'", "the run's folder holds no whole checkpoint", "use 'auto'")
    return content


def position_in(content: Mapping[str, Any], plan: Plan) -> Position:
    """Where the checkpoint's run had come to.

    Within an epoch the steps ahead must take the samples that are left of it: their order stays, and a step of the new
    batch must begin there. Between two epochs everything may change.

    Raises:
        HpcDlError: The rest of the epoch would not be the one that was left; names what is different.
    """
    position = Position(**content["position"])
    if position.epoch_samples == 0:
        return position
    for name, then, now in _differences(content, plan):
        if name not in ORDER:
            continue
        raise HpcDlError(
            f"resuming within an epoch ({position.epoch_samples} samples into it) with {name} = {now}",
            f"it was {then} when the checkpoint was written, so other samples would be left",
            f"resume with {name} = {then}, or from a checkpoint at the end of an epoch",
        )
    step, rest = divmod(position.epoch_samples, plan.step_samples)
    if rest or step >= plan.steps_per_epoch:
        raise HpcDlError(
            f"resuming with a global batch of {plan.step_samples} and {plan.samples} training samples",
            f"the run stopped {position.epoch_samples} samples into an epoch, where no step begins",
            "resume with the batch and the data of before, or from a checkpoint at the end of an epoch",
        )
    return position


def changes(content: Mapping[str, Any], plan: Plan) -> list[str]:
    """What is different from the checkpoint's run, a sentence each."""
    return [f"resumed with {name} = {now}; it was {then} before" for name, then, now in _differences(content, plan)]


def load(content: Mapping[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put a checkpoint into model and optimizer."""
    model.load_state_dict(content["model"])
    # State dicts carry rate, momentum and decay of the run before; those of this run's settings stay.
    options = [{name: group[name] for name in group if name != "params"} for group in optimizer.param_groups]
    optimizer.load_state_dict(content["optimizer"])
    for group, kept in zip(optimizer.param_groups, options, strict=True):
        group.update(kept)


def _differences(content: Mapping[str, Any], plan: Plan) -> Iterator[tuple[str, int, int]]:
    """Name, value then, value now."""
    then = content.get("order", {})  # older checkpoints hold none
    for name, now in order_of(plan).items():
        if name in then and then[name] != now:
            yield name, then[name], now
