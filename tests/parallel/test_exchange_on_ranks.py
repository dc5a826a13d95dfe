# SPDX-License-Identifier: Apache-2.0
"""What the exchange offers beyond the plain mean, on real ranks with either engine."""

from __future__ import annotations

import pytest

from tests.ranks import run_ranks

pytestmark = pytest.mark.parallel

START = """
import sys, torch, hpc_dl
from torch import nn
from hpc_dl.errors import HpcDlError
from hpc_dl.settings import DeviceSettings, ExchangeSettings

def start(engine, **exchange):
    return hpc_dl.start(ExchangeSettings(engine=engine, **exchange), DeviceSettings(name="cpu", threads=1))
"""


def _run(body: str, *arguments: str, ranks: int = 2) -> str:
    ended = run_ranks(ranks, START + body, *arguments)
    assert ended.code == 0, ended.output
    return ended.output


@pytest.mark.parametrize("engine", ["horovod", "torch"])
@pytest.mark.parametrize("kind", ["fp16", "bf16", "model in bf16"])
def test_sixteen_bits_on_the_wire_give_the_mean_within_their_precision(engine: str, kind: str) -> None:
    body = """
engine, kind = sys.argv[1:]
compression = "none" if " " in kind else kind
torch.manual_seed(3)
model = nn.Linear(50, 40, bias=False)
with start(engine) as session:
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    if " " in kind:
        model.to(torch.bfloat16)
    session.distribute(model, optimizer, ExchangeSettings(compression=compression, bucket_megabytes=0.005))
    dtype = model.weight.dtype
    inputs = [torch.randn(8, 50, generator=torch.Generator().manual_seed(rank)).to(dtype) for rank in range(4)]
    gradients = []
    for rank in range(session.world_size):
        weight = model.weight.detach().double().requires_grad_()
        (inputs[rank].double() @ weight.T).square().mean().backward()
        gradients.append(weight.grad)
    expected = torch.stack(gradients).mean(0)
    model(inputs[session.rank]).square().mean().backward()
    session.exchange.finish()
    found = model.weight.grad
    assert found.dtype == dtype
    unit = 2.0**-8 if "bf16" in kind else 2.0**-11
    error = (found.double() - expected).abs().max() / expected.abs().max()
    assert error < 4 * unit, float(error)
    everywhere = session.engine.gather(found)
    if session.rank == 0:
        assert all(torch.equal(one, found) for one in everywhere)
"""
    _run(body, engine, kind, ranks=4)


@pytest.mark.horovod
def test_bf16_over_horovod_moves_half_the_bytes_and_sums_in_fp32() -> None:
    """256 + 1 + 1 + 1 in bfloat16, one after the other, stays 256; summed in fp32 and rounded once it is 260."""
    body = """
with start("horovod") as session:
    tensor = torch.full((1001,), 256.0 if session.rank == 0 else 1.0, dtype=torch.bfloat16)
    total = session.engine.reduce(tensor, "sum")
    assert total.dtype == torch.bfloat16 and total.tolist() == [260.0] * 1001, total[:3]
"""
    # 259 lies between the bfloat16 numbers 258 and 260, and rounds to the even one
    _run(body, ranks=4)


@pytest.mark.horovod
def test_adasum_of_equal_gradients_is_the_gradient_and_of_orthogonal_ones_the_sum() -> None:
    """The two limits of Maleki et al. 2020 (arXiv:2006.02924), section 3."""
    body = """
with start("horovod") as session:
    equal, orthogonal = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
    model = nn.ParameterList([equal, orthogonal])
    session.distribute(model, torch.optim.SGD(model.parameters(), 0.1), ExchangeSettings(adasum=True))
    mine = torch.tensor([2.0, 0.0] if session.rank == 0 else [0.0, 3.0])
    ((equal * torch.tensor([1.0, 1.0])).sum() + (orthogonal * mine).sum()).backward()
    session.exchange.finish()
    assert torch.allclose(equal.grad, torch.tensor([1.0, 1.0])), equal.grad
    assert torch.allclose(orthogonal.grad, torch.tensor([2.0, 3.0])), orthogonal.grad
"""
    _run(body)


def test_adasum_is_refused_where_the_engine_has_none() -> None:
    body = """
model = nn.Linear(2, 2)
with start("torch") as session:
    try:
        session.distribute(model, torch.optim.SGD(model.parameters(), 0.1), ExchangeSettings(adasum=True))
    except HpcDlError as error:
        print(error)
"""
    assert "use engine 'horovod'" in _run(body)


@pytest.mark.parametrize("engine", ["horovod", "torch"])
def test_a_rank_without_a_sample_takes_part_with_zeros(engine: str) -> None:
    body = """
model = nn.Linear(1, 1, bias=False)
with start(sys.argv[1]) as session:
    session.distribute(model, torch.optim.SGD(model.parameters(), 1.0))
    for step in range(3):
        model.zero_grad()
        if session.rank == 0:
            (model(torch.ones(1, 1)).sum() * 2).backward()  # weight: 1 sample x 2 ranks / 1 sample in all
        session.exchange.finish()
        assert model.weight.grad.item() == 1.0
"""
    _run(body, engine)


@pytest.mark.parametrize("engine", ["horovod", "torch"])
def test_drift_of_one_parameter_on_one_rank_is_found_and_named(engine: str) -> None:
    body = """
from hpc_dl.comm.agreement import check_agreement
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(300, 300), nn.BatchNorm1d(300), nn.Linear(300, 5))
with start(sys.argv[1]) as session:
    session.distribute(model, torch.optim.SGD(model.parameters(), 0.1))
    model(torch.randn(8, 300) + session.rank)  # running statistics differ by design
    check_agreement(model, session.engine, 1)
    if session.rank == 2:
        with torch.no_grad():
            model[2].weight[3, 7] += 1e-7
    try:
        check_agreement(model, session.engine, 2)
    except HpcDlError as error:
        print(f"{session.rank}|{error.found}")
"""
    lines = _run(body, engine, ranks=4).strip().splitlines()
    assert sorted(lines) == [f"{rank}|2.weight differ on rank 2" for rank in range(4)]


@pytest.mark.parametrize("engine", ["horovod", "torch"])
def test_ranks_that_lost_count_of_their_backwards_are_told(engine: str) -> None:
    body = """
model = nn.Linear(2, 1)
with start(sys.argv[1]) as session:
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    session.distribute(model, optimizer)
    try:
        for step in range(3):
            for _ in range(2 if session.rank == 1 and step == 1 else 1):
                model(torch.ones(1, 2)).sum().backward()
            optimizer.step()
    except HpcDlError as error:
        print(f"{session.rank}|{error.asked}")
"""
    lines = _run(body, engine, ranks=3).strip().splitlines()
    assert sorted(lines) == [f"{rank}|as many backward passes on every rank before each step" for rank in range(3)]


@pytest.mark.parametrize("engine", ["horovod", "torch"])
def test_a_layer_that_changes_its_weights_in_forward_is_found_at_once(engine: str) -> None:
    body = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(10, 3, max_norm=0.1)
model = Net()
with start(sys.argv[1]) as session:
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    session.distribute(model, optimizer)
    try:
        for step in range(2):
            model.table(torch.tensor([session.rank])).sum().backward()
            optimizer.step()
    except HpcDlError as error:
        print(f"{step}|{error.found}")
"""
    assert _run(body, engine).strip().splitlines() == ["0|table.weight differ on rank 1"] * 2


@pytest.mark.parametrize("engine", ["horovod", "torch"])
def test_large_tensors_travel_in_pieces_and_buffers_of_any_type_arrive(engine: str) -> None:
    body = """
from hpc_dl.comm import buckets, flat
buckets.PIECE_BYTES = flat.CHUNK_BYTES = 64
kinds = [torch.bool, torch.uint8, torch.int64, torch.float16, torch.bfloat16, torch.float64, torch.complex64]
model = nn.Linear(13, 7)
with start(sys.argv[1]) as session:
    for kind in kinds:
        values = (torch.arange(35) % 5 + session.rank).reshape(5, 7).to(kind)
        model.register_buffer("of_" + str(kind).split(".")[1], values if kind != torch.float64 else values.T)
    model.register_buffer("single", torch.tensor(session.rank == 0))
    nn.init.constant_(model.weight, float(session.rank))
    session.distribute(model, torch.optim.SGD(model.parameters(), 0.1))
    for kind in kinds:
        buffer = getattr(model, "of_" + str(kind).split(".")[1])
        expected = (torch.arange(35) % 5).reshape(5, 7).to(kind)
        assert torch.equal(buffer, expected if kind != torch.float64 else expected.T), kind
    assert model.single and not model.weight.any()
    for _ in range(2):
        model.zero_grad()
        model(torch.full((1, 13), 1.0 + session.rank)).sum().backward()
        assert (model.weight.grad == 1.5).all()
    mean = session.engine.average(torch.tensor([1j * session.rank, 2.0]).conj())
    assert mean.tolist() == [-0.5j, 2.0]
"""
    _run(body, engine)


@pytest.mark.parametrize("engine", ["horovod", "torch"])
def test_a_mean_over_tokens_is_that_of_all_ranks(engine: str) -> None:
    """Ranks with 3, 0 and 1 tokens of value 1, 2 and 5, and a second term; gradients are the mean over all tokens."""
    body = """
model = nn.Linear(1, 1, bias=False)
with start(sys.argv[1]) as session:
    session.distribute(model, torch.optim.SGD(model.parameters(), 1.0))
    exchange, rank = session.exchange, session.rank
    tokens = [[[1.0, 1.0, 4.0]], [], [[5.0], [3.0]]][rank]
    for step in range(3):
        model.zero_grad(set_to_none=step == 1)
        for number in range(2):  # two passes; some ranks have nothing for the second
            x = torch.tensor(tokens[number] if number < len(tokens) else []).view(-1, 1)
            with exchange.paused() if number == 0 else contextlib.nullcontext():
                exchange.backward(model(x).mean(), len(x))
        assert model.weight.grad.item() == pytest_approx(14 / 5), model.weight.grad
        exchange.backward(10 * model(torch.ones(1, 1)).mean(), rank)  # weight 0 on rank 0
        assert model.weight.grad.item() == pytest_approx(14 / 5 + 10), model.weight.grad
        with exchange.paused():
            exchange.backward(model(torch.ones(1, 1)).mean(), 1)
        if rank == 0:
            try:
                model(torch.ones(1, 1)).sum().backward()
            except HpcDlError as error:
                print(error.asked)
        exchange.finish()
        model.zero_grad()
        exchange.finish()
"""
    body = "import contextlib\nfrom pytest import approx as pytest_approx\n" + body
    assert _run(body, engine, ranks=3).split("\n")[0] == "gradients of one mean"
