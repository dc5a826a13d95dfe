# SPDX-License-Identifier: Apache-2.0
"""One value for running statistics, which each rank takes from its own samples."""

from __future__ import annotations

import torch
from torch import nn

from hpc_dl.comm.base import Engine


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
