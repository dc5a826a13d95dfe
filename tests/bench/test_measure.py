# SPDX-License-Identifier: Apache-2.0
"""Measuring without ranks: what is done with the times, and that all ranks do the same number of repeats."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from hpc_dl import devices
from hpc_dl.bench.buckets import profile
from hpc_dl.bench.measure import Plan, measure_all, summarise
from hpc_dl.bench.run import run
from hpc_dl.bench.transports import Transport
from hpc_dl.cluster.rank import RankRecord
from hpc_dl.data.base import Arrays
from hpc_dl.data.batch import Placement
from hpc_dl.errors import HpcDlError
from hpc_dl.training.objective import PairObjective


class Alone(Transport):
    """One rank whose collectives cost nothing; counts what is done."""

    rank, ranks, engine, backend, collectives = 0, 1, "fake", "gloo", ("allreduce", "broadcast")

    def __init__(self) -> None:
        self.done: list[tuple[str, int]] = []

    def prepare(self, collective: str, size_bytes: int) -> Callable[[], None]:
        return lambda: self.done.append((collective, size_bytes))

    def gather(self, value: Any) -> list[Any]:
        return [value]

    def broadcast(self, value: Any) -> Any:
        return value

    def barrier(self) -> None:
        return None


def test_sizes_run_from_four_bytes_to_a_gibibyte() -> None:
    sizes = Plan().sizes()
    assert (sizes[0], sizes[-1], len(sizes)) == (4, 2**30, 15)
    assert Plan(smallest_bytes=1000, largest_bytes=9000, factor=3).sizes() == [1000, 3000, 9000]


def test_the_slowest_rank_of_each_repeat_counts() -> None:
    measured = summarise("allreduce", 8, [("a", [1.0, 5.0, 1.0]), ("b", [2.0, 1.0, 3.0])])
    assert (measured.seconds, measured.fastest_seconds, measured.repeats) == (3.0, 2.0, 3)
    assert (measured.low_seconds, measured.high_seconds) == (2.5, 4.0)


def test_a_slow_rank_is_named_and_usual_scatter_is_not() -> None:
    generator = np.random.default_rng(0)
    times = [(f"host{rank}", (1 + 0.02 * generator.normal(size=20)).tolist()) for rank in range(16)]
    assert summarise("allreduce", 8, times).outliers == ()
    times[5] = ("host5", [1.5] * 20)
    (odd,) = summarise("allreduce", 8, times).outliers
    assert (odd.rank, odd.host) == (5, "host5")
    assert odd.ratio == pytest.approx(1.5, rel=0.02)


def test_repeats_are_bounded_and_time_ends_the_benchmark() -> None:
    transport = Alone()
    plan = Plan(smallest_bytes=4, largest_bytes=64, seconds_per_size=100.0, most_repeats=7, warmups=2)
    found = list(measure_all(transport, ["allreduce"], plan))
    assert [one.repeats for one in found if one] == [7, 7, 7]
    assert transport.done.count(("allreduce", 16)) == 2 + 1 + 7
    assert list(measure_all(transport, ["allreduce"], Plan(seconds_in_all=0.0))) == []


def test_a_collective_the_engine_lacks_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(HpcDlError, match="allgather"):
        run(Alone(), "cpu", Plan(), ["allgather"])
    outcome = run(Alone(), "cpu", Plan(largest_bytes=4, seconds_per_size=0.0))
    assert outcome is not None
    assert outcome.library == "gloo"
    assert "fake over gloo, 1 ranks on 1 hosts" in capsys.readouterr().out


def test_the_profile_of_a_model_holds_all_gradients_and_their_order() -> None:
    device = devices.choose("cpu", RankRecord(0, 1, 0, 1, None, "single"), lambda index: index, {})
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))
    source = Arrays(torch.randn(32, 64), torch.randint(4, (32,)))
    found = profile(
        Alone(),
        "mlp",
        model,
        PairObjective(nn.functional.cross_entropy),
        source,
        16,
        device,
        Placement(device.torch_device),
        "fp32",
        1e-3,
        Plan(seconds_per_size=0.0),
    )
    assert found is not None
    parameters = [p.numel() for p in model.parameters()]
    assert sum(found.size_bytes) == 4 * (sum(parameters) + len(parameters)), "gradients and a flag for each"
    assert list(found.ready) == sorted(found.ready)
    assert 0 < found.ready[0] <= found.ready[-1] <= 1
    assert all(parameter.grad is not None for parameter in model.parameters())
