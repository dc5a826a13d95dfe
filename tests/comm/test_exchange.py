# SPDX-License-Identifier: Apache-2.0
"""The gradient exchange over an engine that is played in one process: buckets, order, missing gradients, misuse."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref

import pytest
import torch
from torch import Tensor, nn

from hpc_dl.comm.base import Done
from hpc_dl.comm.buckets import make_buckets
from hpc_dl.comm.exchange import GradientExchange
from hpc_dl.comm.single import SingleEngine
from hpc_dl.comm.weights import Heading
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
        if not name.endswith("heading"):
            self.started.append(name)
        if op != "max":  # of two equal ones
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
    assert [bucket.flat.tensor.dtype for bucket in make_buckets(parameters, 1000)] == [torch.float64, torch.float32]


def test_sums_start_during_backward_in_one_order() -> None:
    """From the second round on: the first shows whether a gradient may arrive several times."""
    model, engine = _model(), Twin()
    exchange = GradientExchange(engine, model.parameters(), bucket_bytes=100)
    started: list[int] = []
    model[0].weight.register_hook(lambda gradient: started.append(len(engine.started)))
    _backward(model)
    first = list(engine.started)
    _backward(model)
    assert first == [bucket.name for bucket in exchange.buckets]
    assert engine.started == 2 * first
    assert started[0] == 0
    assert started[1] - len(first) >= len(first) - 2


def test_the_trainers_optimizer_groups_do_not_hold_the_first_bucket_back() -> None:
    """Weight decay puts biases into a group of their own; backward still fills the first bucket early."""
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Sequential(nn.Linear(64, 64), nn.LayerNorm(64)) for _ in range(12)))
    arrived = 0
    started_after: list[int] = []

    class Watching(Twin):
        def reduce_async(self, tensor: Tensor, op: str, name: str) -> Done:  # type: ignore[override]
            if not name.endswith("heading"):
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
    arrived = 0
    started_after.clear()
    model(torch.randn(3, 64)).sum().backward()
    assert len(started_after) == 12
    exchange.finish()
    assert len(started_after) == 12
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
    # the other rank's bucket: its gradient (2, 4, 6) and its flag, both halved already, and its heading
    engine = Twin({"gradients.0": torch.tensor([1.0, 2.0, 3.0, 0.5, *[0.0] * Heading.NUMBERS])})
    GradientExchange(engine, [parameter], 1000).finish()
    assert parameter.grad is not None
    assert parameter.grad.tolist() == [1.0, 2.0, 3.0]


def _with_a_weight_of_four() -> Twin:
    """The other rank's gradient is (2, 4, 6), a mean over four things: times four and halved, and its heading."""
    return Twin({"gradients.0": torch.tensor([4.0, 8.0, 12.0, 0.5, 1.0, 4.0, 0.0, 0.0, 0.0])})


@pytest.mark.parametrize("says_so", [True, False])
def test_a_rank_that_has_nothing_adds_the_weighted_mean_to_the_mean_before(says_so: bool) -> None:
    parameter, engine = nn.Parameter(torch.zeros(3)), _with_a_weight_of_four()
    exchange = GradientExchange(engine, [parameter], 1000)
    for kept in (None, torch.full((3,), 10.0)):
        parameter.grad, before = kept, 0.0 if kept is None else 10.0
        if says_so:
            exchange.backward(torch.zeros(()), 0)
        else:
            exchange.finish()
        assert parameter.grad is not None
        assert parameter.grad.tolist() == [2.0 + before, 4.0 + before, 6.0 + before]
    assert len(engine.started) == 3  # the second one again, when the other's weight was known


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


def test_a_second_backward_adds_to_the_mean() -> None:
    """The other rank has three times our gradient, so every mean is twice ours."""
    parameter = nn.Parameter(torch.tensor([1.0]))
    engine = _Tripled()
    _kept = GradientExchange(engine, [parameter], 1000)
    (2 * parameter).sum().backward()
    assert parameter.grad.tolist() == [4.0]
    engine.times = 1  # equal ranks from here on: the mean so far counts once
    (3 * parameter).sum().backward()
    assert parameter.grad.tolist() == [7.0]


def test_gradients_clipped_after_backward_are_those_of_all_ranks() -> None:
    parameter = nn.Parameter(torch.tensor([1.0]))
    exchange = GradientExchange(_Tripled(), [parameter], 1000)
    (5 * parameter).sum().backward()
    assert nn.utils.clip_grad_norm_([parameter], 1.0) == 10.0
    exchange.finish()
    assert parameter.grad.item() == pytest.approx(1.0)


def test_a_gradient_put_aside_is_not_overwritten_by_the_next_one() -> None:
    model = _model()
    exchange = GradientExchange(Twin(), model.parameters(), bucket_bytes=1000)
    for _ in range(3):
        model.zero_grad()
        _backward(model)
        kept = [(p.grad, p.grad.view(-1), p.grad.clone()) for p in model.parameters()]
        model.zero_grad()
        (5 * model(torch.ones(3, 4))).square().sum().backward()
        for gradient, seen_otherwise, value in kept:
            assert torch.equal(gradient, value)
            assert torch.equal(seen_otherwise, value.view(-1))
        del gradient, seen_otherwise, kept
    for bucket in exchange.buckets:
        assert len(bucket.flats) <= 2


def test_a_backward_that_fails_leaves_the_next_one_right() -> None:
    model, reference = _model(), _model()
    engine = Twin()
    exchange = GradientExchange(engine, model.parameters(), bucket_bytes=100)
    _backward(model)
    model.zero_grad()
    failing = model[2].weight.register_hook(_fail)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            _backward(model)
        model.zero_grad()
    failing.remove()
    _backward(model)
    _backward(reference)
    for mine, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        assert torch.allclose(mine.grad, theirs.grad)
    assert len(engine.started) == 4 * len(exchange.buckets)


def test_a_rank_that_failed_alone_spoils_the_others_visibly() -> None:
    """What is left of its gradients is not sent as if it were all."""
    sent: dict[str, Tensor] = {}

    class Listening(Twin):
        def reduce_async(self, tensor: Tensor, op: str, name: str) -> Done:  # type: ignore[override]
            sent[name] = tensor.clone()
            return super().reduce_async(tensor, op, name)

    model = _model()
    exchange = GradientExchange(Listening(), model.parameters(), bucket_bytes=10**6)
    failing = model[0].weight.register_hook(_fail)
    with pytest.raises(ZeroDivisionError):
        _backward(model)
    failing.remove()
    assert not sent
    values: list[Tensor] = []
    model[4].weight.register_post_accumulate_grad_hook(lambda _: values.append(sent["gradients.0"]))
    _backward(model)
    assert values[0][: -Heading.NUMBERS].isnan().all()
    exchange.finish()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def _fail(_: Tensor) -> None:
    raise ZeroDivisionError


def test_a_parameter_that_is_unfrozen_later_is_taken_in() -> None:
    model = _model()
    model[0].requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    engine = _Quiet()
    exchange = wrap(engine, model, optimizer, ExchangeSettings(check_every_steps=0))
    _backward(model)
    optimizer.step()
    model[0].requires_grad_(True)
    _backward(model)
    assert isinstance(exchange, GradientExchange)
    assert exchange.holds(model[0].weight)
    assert exchange.newcomers
    optimizer.step()
    assert not exchange.newcomers


def test_exchanges_of_models_that_are_gone_hold_no_memory() -> None:
    def train() -> weakref.ref[GradientExchange]:
        model = _model()
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        exchange = wrap(_Quiet(), model, optimizer, ExchangeSettings())
        _backward(model)
        optimizer.step()
        assert isinstance(exchange, GradientExchange)
        return weakref.ref(exchange)

    exchange = train()
    gc.collect()
    assert exchange() is None


def test_a_copy_of_a_model_has_no_exchange() -> None:
    model, engine = _model(), _Quiet()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    exchange = wrap(engine, model, optimizer, ExchangeSettings())
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        engine.started.clear()
        _backward(copied)
        assert engine.started == []
    assert exchange


def test_a_closure_steps_with_averaged_gradients() -> None:
    """The other rank sends three times our gradient, so the mean is twice ours."""
    parameter = nn.Parameter(torch.tensor([1.0]))
    model = nn.ParameterList([parameter])

    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    wrap(_Tripled(), model, optimizer, ExchangeSettings(check_every_steps=0))

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
            tensor *= 4096.0
            return Done()

    exchange = GradientExchange(Many(), [parameter], 1000, wire_dtype=torch.float16)
    (parameter * 1e-4).sum().backward()
    exchange.finish()
    assert torch.allclose(parameter.grad, torch.full((3,), 1e-4), rtol=1e-2)


class _Quiet(Twin):
    """A twin that needs no broadcast."""

    def broadcast_bytes(self, tensor: Tensor, root: int, name: str) -> None:
        return None


class _Tripled(_Quiet):
    """The other rank has three times our gradient."""

    times = 3

    def reduce_async(self, tensor: Tensor, op: str, name: str) -> Done:  # type: ignore[override]
        tensor += (self.times if name[-1].isdigit() else 1) * tensor.clone()
        return Done()


def test_channels_last_gradients_keep_their_layout() -> None:
    layer = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    exchange = GradientExchange(Twin(), layer.parameters(), bucket_bytes=1000)
    layer(torch.randn(2, 3, 6, 6).contiguous(memory_format=torch.channels_last)).sum().backward()
    exchange.finish()
    assert layer.weight.grad.is_contiguous(memory_format=torch.channels_last)


def test_sparse_gradients_are_refused_with_the_remedy() -> None:
    layer = nn.Embedding(5, 2, sparse=True)
    exchange = GradientExchange(Twin(), layer.parameters(), bucket_bytes=1000)
    with pytest.raises(HpcDlError, match="sparse=False"):
        layer(torch.tensor([1])).sum().backward()
    assert exchange


@pytest.mark.parametrize(("wire", "tolerance"), [(torch.float16, 1e-3), (torch.bfloat16, 1e-2)])
def test_compression_moves_half_the_bytes_and_rounds(wire: torch.dtype, tolerance: float) -> None:
    model, reference = _model(), _model()
    seen: list[torch.dtype] = []

    class Watching(Twin):
        def reduce_async(self, tensor: Tensor, op: str, name: str) -> Done:  # type: ignore[override]
            if not name.endswith("heading"):
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
