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
from hpc_dl.training.agreement import check_agreement
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
