# SPDX-License-Identifier: Apache-2.0
"""IPEX on one process: what it may not change, and what leaves it in plain layout."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from hpc_dl.comm import optimizer_hooks
from hpc_dl.devices import ipex
from hpc_dl.errors import HpcDlError
from hpc_dl.settings import OptimizerSettings
from hpc_dl.training.optimizers import build
from tests.ipex.ipex_task import network

OPTIMIZERS = ["sgd", "adam", "adamw", "lars", "lamb"]
BF16 = 2.0**-7
"""Relative spacing of bfloat16 numbers, with a bit to spare."""


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(16, 1, 28, 28, generator=generator).contiguous(memory_format=torch.channels_last)
    return inputs, torch.randint(0, 10, (16,), generator=generator)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, precision: str) -> list[float]:
    inputs, target = batch()
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
            loss = nn.functional.cross_entropy(model(inputs), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def prepared(name: str, precision: str, with_ipex: bool) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = network().to(memory_format=torch.channels_last)
    rate = {"sgd": 0.05, "adam": 1e-3, "adamw": 1e-3, "lars": 5.0, "lamb": 0.01}[name]
    optimizer = build(model, OptimizerSettings(name, rate, weight_decay=0.01))  # type: ignore[arg-type]
    return ipex.optimize(model, optimizer, precision) if with_ipex else (model, optimizer)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_training_goes_as_without_ipex(name: str, precision: str) -> None:
    plain = train(*prepared(name, precision, with_ipex=False), 10, precision)
    packed = train(*prepared(name, precision, with_ipex=True), 10, precision)
    assert plain[-1] < plain[0] - 0.1
    # Packed weights keep bf16 gradients, native autocast fp32 ones; the loss falls from 2.3 to nothing in these steps.
    assert packed == pytest.approx(plain, abs=0.1 if precision == "bf16" else 1e-3)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_evaluation_sees_the_trained_weights(name: str) -> None:
    model, optimizer = prepared(name, "bf16", with_ipex=True)
    train(model, optimizer, 5, "bf16")
    plain = network()
    plain.load_state_dict(model.state_dict())
    inputs, _ = batch()
    model.eval()
    with torch.no_grad():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            packed_output, plain_output = model(inputs), plain(inputs)
        exact = plain(inputs)
    scale = exact.abs().max()
    torch.testing.assert_close(packed_output.float(), plain_output.float(), rtol=0, atol=4 * BF16 * scale)
    torch.testing.assert_close(packed_output.float(), exact, rtol=0, atol=4 * BF16 * scale)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_state_is_plain_fp32_and_loads_where_there_is_no_ipex(name: str, tmp_path: Path) -> None:
    model, optimizer = prepared(name, "bf16", with_ipex=True)
    train(model, optimizer, 3, "bf16")
    torch.save((model.state_dict(), optimizer.state_dict()), tmp_path / "state.pt")
    program = f"""
import sys
sys.modules["intel_extension_for_pytorch"] = None
import torch
from tests.ipex.test_ipex_alone import prepared, train
model, optimizer = prepared({name!r}, "fp32", with_ipex=False)
parts = torch.load({str(tmp_path / "state.pt")!r})
model.load_state_dict(parts[0])
optimizer.load_state_dict(parts[1])
for group in optimizer.param_groups:
    for p in group["params"]:
        for key, value in optimizer.state[p].items():
            assert value.ndim == 0 or (value.shape == p.shape and value.dtype == p.dtype == torch.float32), key
losses = train(model, optimizer, 3, "fp32")
assert losses[2] < losses[0], losses
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_packed_training_continues_from_a_state(name: str) -> None:
    """Six steps in a row, and three, a save and a load, and three more, are the same to the bit."""
    whole = prepared(name, "bf16", with_ipex=True)
    losses = train(*whole, 6, "bf16")
    first = prepared(name, "bf16", with_ipex=True)
    train(*first, 3, "bf16")
    second = prepared(name, "bf16", with_ipex=True)
    second[0].load_state_dict(first[0].state_dict())
    second[1].load_state_dict(first[1].state_dict())
    assert train(*second, 3, "bf16") == losses[3:]
    for key, value in whole[0].state_dict().items():
        assert torch.equal(value, second[0].state_dict()[key]), key


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_gradients_can_be_clipped_and_seen_before_the_step(name: str) -> None:
    model, optimizer = prepared(name, "bf16", with_ipex=True)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    seen = []

    def drop_gradients() -> None:
        holders = optimizer_hooks.trained_parameters(optimizer)
        seen.append(sum(p.grad is not None for p in holders) == len(holders))
        for p in holders:
            p.grad = None

    optimizer_hooks.before_step(optimizer, drop_gradients)
    train(model, optimizer, 2, "bf16")
    assert seen == [True, True]
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key  # no gradient was left for the step


@pytest.mark.parametrize("precision", ["fp16", "fp64"])
def test_other_precisions_are_refused(precision: str) -> None:
    with pytest.raises(HpcDlError, match=f"does not train in {precision}"):
        prepared("sgd", precision, with_ipex=True)
