# SPDX-License-Identifier: Apache-2.0
"""The gradient exchange over an engine that is played in one process: buckets, order, missing gradients, misuse."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from hpc_dl.comm.base import Done
from hpc_dl.comm.exchange import GradientExchange, make_buckets
from hpc_dl.comm.single import SingleEngine
from hpc_dl.comm.wrap import wrap
from hpc_dl.errors import HpcDlError
from hpc_dl.settings import ExchangeSettings, OptimizerSettings
from hpc_dl.training.optimizers import build


class Twin(SingleEngine):
    """Two ranks, of which the other one sends what the test says (its own contribution by default)."""

    world_size = 2

    def __init__(self, other: dict[str, Tensor] | None = None) -> None:
        self.other = other or {}
        self.started: list[str] = []

    def reduce_async(self, tensor: Tensor, op: str, name: str) -> Done:  # type: ignore[override]
        self.started.append(name)
        tensor += self.other.get(name, tensor.clone())
        return Done()


def _model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))


def _backward(model: nn.Module) -> None:
    model(torch.ones(3, 4)).square().sum().backward()


def test_buckets_hold_every_parameter_once_last_first_and_stay_in_size() -> None:
    parameters = list(_model().parameters())
    buckets = make_buckets(parameters, 300)
    order = [parameter for bucket in buckets for parameter in bucket.parameters]
    assert [id(parameter) for parameter in order] == [id(parameter) for parameter in reversed(parameters)]
    for bucket in buckets:
        assert len(bucket.parameters) == 1 or sum(p.numel() * 4 for p in bucket.parameters) <= 300


def test_types_do_not_share_a_bucket() -> None:
    parameters = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2, dtype=torch.float64))]
    assert [bucket.flat.dtype for bucket in make_buckets(parameters, 1000)] == [torch.float64, torch.float32]


def test_sums_start_during_backward_in_one_order() -> None:
    model, engine = _model(), Twin()
    exchange = GradientExchange(engine, model.parameters(), bucket_bytes=100)
    _backward(model)
    during_backward = list(engine.started)
    exchange.finish()
    assert during_backward == engine.started
    assert engine.started == [bucket.name for bucket in exchange.buckets]


def test_the_trainers_optimizer_groups_do_not_hold_the_first_bucket_back() -> None:
    """Weight decay puts biases into a group of their own; backward still fills the first bucket early."""
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Sequential(nn.Linear(64, 64), nn.LayerNorm(64)) for _ in range(12)))
    arrived = 0
    started_after: list[int] = []

    class Watching(Twin):
        def reduce_async(self, tensor: Tensor, op: str, name: str) -> Done:  # type: ignore[override]
            started_after.append(arrived)
            return super().reduce_async(tensor, op, name)

        def broadcast_bytes(self, tensor: Tensor, root: int, name: str) -> None:
            return None

    def count(_: Tensor) -> None:
        nonlocal arrived
        arrived += 1

    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(count)
    optimizer = build(model, OptimizerSettings())
    exchange = wrap(Watching(), model, optimizer, ExchangeSettings(bucket_megabytes=0.02))
    started_after.clear()  # the comparison of the ranks' models
    model(torch.randn(3, 64)).sum().backward()
    during_backward = len(started_after)
    exchange.finish()
    assert len(started_after) == 12
    assert during_backward >= 11
    assert started_after[0] <= 8
    assert started_after == sorted(started_after)
    assert started_after[5] < 30


@pytest.mark.parametrize("set_to_none", [True, False])
def test_equal_ranks_keep_their_gradient_step_after_step(set_to_none: bool) -> None:
    model, reference = _model(), _model()
    exchange = GradientExchange(Twin(), model.parameters(), bucket_bytes=100)
    for _ in range(3):
        for some in (model, reference):
            some.zero_grad(set_to_none=set_to_none)
            _backward(some)
        exchange.finish()
        for mine, theirs in zip(model.parameters(), reference.parameters(), strict=True):
            assert torch.allclose(mine.grad, theirs.grad)


def test_a_gradient_that_only_the_other_rank_has_arrives_here() -> None:
    parameter = nn.Parameter(torch.zeros(3))
    # the other rank's bucket: its gradient (2, 4, 6) and its flag, both halved already
    engine = Twin({"gradients.0": torch.tensor([1.0, 2.0, 3.0, 0.5])})
    GradientExchange(engine, [parameter], 1000).finish()
    assert parameter.grad is not None
    assert parameter.grad.tolist() == [1.0, 2.0, 3.0]


def test_a_gradient_that_nobody_has_stays_none() -> None:
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    exchange = GradientExchange(Twin(), [used, unused], 1000)
    used.sum().backward()
    exchange.finish()
    assert used.grad is not None
    assert unused.grad is None


def test_accumulation_exchanges_once_and_all_of_it() -> None:
    model, reference = _model(), _model()
    engine = Twin()
    exchange = GradientExchange(engine, model.parameters(), bucket_bytes=10**6)
    with exchange.paused():
        _backward(model)
    assert engine.started == []
    _backward(model)
    exchange.finish()
    assert engine.started == ["gradients.0"]
    _backward(reference)
    _backward(reference)
    for mine, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        assert torch.allclose(mine.grad, theirs.grad)


def test_two_backwards_without_a_pause_are_refused() -> None:
    model = _model()
    GradientExchange(Twin(), model.parameters(), bucket_bytes=1000)
    _backward(model)
    with pytest.raises(HpcDlError, match=r"exchange\.paused"):
        _backward(model)


def test_gradients_clipped_before_they_are_averaged_are_refused() -> None:
    model = _model()
    exchange = GradientExchange(Twin(), model.parameters(), bucket_bytes=10**6)
    _backward(model)
    nn.utils.clip_grad_norm_(model.parameters(), 0.1)
    with pytest.raises(HpcDlError, match=r"exchange\.finish\(\) right after backward"):
        exchange.finish()


def test_a_parameter_that_was_frozen_at_first_is_not_trained_alone() -> None:
    model = _model()
    model[0].requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    wrap(_Quiet(), model, optimizer, ExchangeSettings())
    model[0].requires_grad_(True)
    _backward(model)
    with pytest.raises(HpcDlError, match="was not averaged"):
        optimizer.step()


def test_a_closure_steps_with_averaged_gradients() -> None:
    """The other rank sends three times our gradient, so the mean is twice ours."""
    parameter = nn.Parameter(torch.tensor([1.0]))
    model = nn.ParameterList([parameter])

    class Tripled(_Quiet):
        def reduce_async(self, tensor: Tensor, op: str, name: str) -> Done:  # type: ignore[override]
            tensor += 3 * tensor.clone()
            return Done()

    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    wrap(Tripled(), model, optimizer, ExchangeSettings())

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = 5 * parameter.sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert parameter.item() == 1.0 - 10.0


def test_fp16_on_the_wire_keeps_small_gradients_of_many_ranks() -> None:
    parameter = nn.Parameter(torch.zeros(3))

    class Many(_Quiet):
        world_size = 4096

        def reduce_async(self, tensor: Tensor, op: str, name: str) -> Done:  # type: ignore[override]
            tensor *= 4096
            return Done()

    exchange = GradientExchange(Many(), [parameter], 1000, wire_dtype=torch.float16)
    (parameter * 1e-4).sum().backward()
    exchange.finish()
    assert torch.allclose(parameter.grad, torch.full((3,), 1e-4), rtol=1e-2)


class _Quiet(Twin):
    """A twin that needs no broadcast."""

    def broadcast_bytes(self, tensor: Tensor, root: int, name: str) -> None:
        return None


def test_channels_last_gradients_keep_their_layout() -> None:
    layer = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    exchange = GradientExchange(Twin(), layer.parameters(), bucket_bytes=1000)
    layer(torch.randn(2, 3, 6, 6).contiguous(memory_format=torch.channels_last)).sum().backward()
    exchange.finish()
    assert layer.weight.grad.is_contiguous(memory_format=torch.channels_last)


def test_sparse_gradients_are_refused_with_the_remedy() -> None:
    layer = nn.Embedding(5, 2, sparse=True)
    GradientExchange(Twin(), layer.parameters(), bucket_bytes=1000)
    with pytest.raises(HpcDlError, match="sparse=False"):
        layer(torch.tensor([1])).sum().backward()


@pytest.mark.parametrize(("wire", "tolerance"), [(torch.float16, 1e-3), (torch.bfloat16, 1e-2)])
def test_compression_moves_half_the_bytes_and_rounds(wire: torch.dtype, tolerance: float) -> None:
    model, reference = _model(), _model()
    seen: list[torch.dtype] = []

    class Watching(Twin):
        def reduce_async(self, tensor: Tensor, op: str, name: str) -> Done:  # type: ignore[override]
            seen.append(tensor.dtype)
            return super().reduce_async(tensor, op, name)

    exchange = GradientExchange(Watching(), model.parameters(), 10**6, wire_dtype=wire)
    _backward(model)
    _backward(reference)
    exchange.finish()
    assert seen == [wire]
    for mine, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        assert mine.grad.dtype == torch.float32
        assert torch.allclose(mine.grad, theirs.grad, rtol=tolerance, atol=tolerance)
