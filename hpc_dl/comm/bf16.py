# SPDX-License-Identifier: Apache-2.0
"""A sum of bfloat16 tensors over Horovod, which knows no bfloat16: half the bytes of fp32, summed in fp32.

Reduce-scatter and allgather, as a ring would do it, with the raw 16 bits travelling as fp16 (Horovod moves them, nobody
adds them): each rank receives its part of everybody's tensor by an all-to-all, adds the parts in fp32, rounds once, and
an allgather puts the sums together.
"""

from __future__ import annotations

import horovod.torch as hvd
import torch
from torch import Tensor


class Bf16Sum:
    """The sum of a contiguous bfloat16 tensor over all ranks, in place, under way since construction."""

    def __init__(self, tensor: Tensor, name: str) -> None:
        self._tensor, self._name = tensor, name
        parts = hvd.size()
        length = -(-tensor.numel() // parts)
        padded = torch.zeros(parts * length, dtype=torch.bfloat16, device=tensor.device)
        padded[: tensor.numel()] = tensor.view(-1)
        self._scatter = hvd.alltoall_async(padded.view(torch.float16), name=f"{name}.scatter")

    def wait(self) -> None:
        received = hvd.synchronize(self._scatter)
        received = received[0] if isinstance(received, tuple) else received
        parts = received.view(torch.bfloat16).view(hvd.size(), -1)
        mine = parts.float().sum(dim=0).to(torch.bfloat16)
        whole = hvd.allgather(mine.view(torch.float16), name=f"{self._name}.gather").view(torch.bfloat16)
        self._tensor.view(-1).copy_(whole[: self._tensor.numel()])
