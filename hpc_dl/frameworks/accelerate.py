# SPDX-License-Identifier: Apache-2.0
"""Following a loop of Accelerate's: `run = follow(accelerator, model, optimizer, global_batch=128, folder="mine")`.

Model and optimizer are those that `accelerator.prepare` has returned. The run writes and resumes its own checkpoints.
"""

from __future__ import annotations

from typing import Any

from accelerate import Accelerator
from torch import nn
from torch.optim import Optimizer

from hpc_dl.run.follow import Follow
from hpc_dl.run.guest import guest


def follow(accelerator: Accelerator, model: nn.Module, optimizer: Optimizer, **options: Any) -> Follow:
    """Follow a loop.

    Args:
        accelerator: It has brought the ranks together.
        model: Prepared.
        optimizer: Prepared.
        options: Those of `Follow`; `global_batch` has to be given.
    """
    bare = getattr(optimizer, "optimizer", optimizer)  # Accelerate's wrapper calls no hooks
    state: dict[str, Any] = {"model": accelerator.unwrap_model(model), "optimizer": bare}
    return Follow(guest(model), model, bare, **({"state": state} | options))
