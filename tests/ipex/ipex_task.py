# SPDX-License-Identifier: Apache-2.0
"""A small network and real digits for runs with and without IPEX, and the settings they share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from tests.ranks import hpc_dl

TASK = """
[task]
model = "tests.ipex.ipex_task:network"
loss = "torch.nn.functional:cross_entropy"
after = "tests.ipex.ipex_task:save_state"
[training]
steps = 50
global_batch = 64
evaluate_every_epochs = 0
clip_norm = 1.0
[optimizer]
name = "sgd"
learning_rate = 0.05
[schedule]
scaling = "none"
[device]
name = "cpu"
precision = "bf16"
channels_last = true
threads = 1
[log]
window_steps = 1
warmup_steps = 0
[checkpoint]
last = true
"""


def network() -> nn.Module:
    """Convolutions of odd sizes, so that packed weights are padded; no layer that looks at more than one sample."""
    return nn.Sequential(
        nn.Conv2d(1, 20, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(20, 36, 3, stride=2, padding=1),
        nn.GroupNorm(4, 36),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(36 * 14 * 14, 37),
        nn.ReLU(),
        nn.Linear(37, 10),
    )


def save_state(model: nn.Module, session: Any, folder: Path) -> None:
    """Keep what every rank arrived at."""
    torch.save(model.state_dict(), folder / f"state.{session.rank}.pt")


def words(folder: Path, *more: str) -> list[str]:
    """The command of a run into that folder."""
    file = folder.parent / "ipex.toml"
    file.write_text(TASK)
    return hpc_dl("train", str(file), "--log.folder", str(folder), *more)


def state(folder: Path, rank: int = 0) -> dict[str, torch.Tensor]:
    loaded: dict[str, torch.Tensor] = torch.load(folder / f"state.{rank}.pt")
    return loaded
