# SPDX-License-Identifier: Apache-2.0
"""Training and evaluation mode of a model's parts: what its owner has put into evaluation mode stays there."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import is_lazy


def put_into_training(model: nn.Module) -> None:
    """`model.train()`, except for parts that were put into evaluation mode on purpose.

    These are single layers, and parts in which nothing is trained, in evaluation mode within a part in training mode.
    A model that is in evaluation mode as a whole, as libraries hand out their trained ones, goes into training mode as
    a whole; so does a part of that kind which is to be trained further.
    """
    resting = list(_resting(model)) if model.training else []
    model.train()
    for part in resting:
        part.eval()


@contextlib.contextmanager
def modes_kept(model: nn.Module) -> Iterator[None]:
    """Every part is afterwards in its mode of before."""
    before = [(part, part.training) for part in model.modules()]
    try:
        yield
    finally:
        for part, training in before:
            part.training = training


@contextlib.contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Buffers, such as running statistics, and all random numbers are afterwards as if nothing had run in the block."""
    buffers = [
        (part, name, buffer, buffer.clone())
        for part in model.modules()
        for name, buffer in part.named_buffers(recurse=False)
        if not is_lazy(buffer)
    ]
    devices = list({parameter.device for parameter in model.parameters() if parameter.device.type != "cpu"})
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices, device_type=devices[0].type if devices else "cuda"):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
            for part, name, buffer, value in buffers:
                setattr(part, name, buffer)
                with torch.no_grad():
                    buffer.copy_(value)


def _resting(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        if child.training:
            yield from _resting(child)
        elif not any(child.children()) or not any(parameter.requires_grad for parameter in child.parameters()):
            yield child
