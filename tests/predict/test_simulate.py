# SPDX-License-Identifier: Apache-2.0
"""The simulation agrees with formulas where those are exact, and is quick enough for the largest machines."""

import time

import numpy as np
import pytest

from hpc_dl.cluster import machines
from hpc_dl.predict.collectives import Link
from hpc_dl.predict.machine import from_machine
from hpc_dl.predict.network import LinkedNetwork
from hpc_dl.predict.overlap import uniform_buckets
from hpc_dl.predict.simulate import Disturbances, simulate, what_if
from hpc_dl.predict.step import Habits, Workload, predict_step
from hpc_dl.predict.stragglers import exponential_maximum, normal_maximum

RESNET50 = Workload("resnet50", 64, 0.002, 0.05, 0.1, 0.005, 0.001, uniform_buckets(102e6, 25 * 2**20))
SLOW = LinkedNetwork("mpich", Link.of(2e-6, 5e9), Link.of(2e-5, 1e9))
FREE = LinkedNetwork("mpich", Link(0.0, 0.0), Link(0.0, 0.0))
CALM = Disturbances(jitter=0.0)


@pytest.mark.parametrize(("ranks", "nodes"), [(1, 1), (4, 1), (8, 8), (64, 16)])
@pytest.mark.parametrize("accumulation", [1, 4])
def test_without_disturbance_it_is_the_formula(ranks: int, nodes: int, accumulation: int) -> None:
    workload = Workload(**{**vars(RESNET50), "accumulation": accumulation})
    simulated = simulate(workload, SLOW, ranks, nodes, 3, CALM)
    formula = predict_step(workload, SLOW, Habits(jitter=0.0), ranks, nodes)
    assert simulated.step_seconds == pytest.approx(formula.seconds)
    assert simulated.exposed_seconds == pytest.approx(formula.exposed_seconds)
    assert simulated.straggler_seconds == pytest.approx(0.0)


def test_with_a_free_network_jitter_costs_the_expected_maximum() -> None:
    """Forward and backward of standard deviations 0.52 and 1 ms: their sum's maximum over 512 ranks."""
    simulated = simulate(RESNET50, FREE, 512, 128, 2000, Disturbances(jitter=0.01))
    sigma = 0.01 * np.hypot(RESNET50.input_seconds + RESNET50.forward_seconds, RESNET50.backward_seconds)
    extra = simulated.step_seconds.mean() - RESNET50.local_seconds
    assert extra == pytest.approx(sigma * normal_maximum(512), rel=0.01)


def test_interruptions_of_all_ranks_cost_the_harmonic_number() -> None:
    disturbed = Disturbances(jitter=0.0, hiccup_probability=1.0, hiccup_seconds=0.01)
    simulated = simulate(RESNET50, FREE, 100, 25, 4000, disturbed)
    extra = simulated.step_seconds.mean() - RESNET50.local_seconds
    assert extra == pytest.approx(0.01 * exponential_maximum(100), rel=0.02)


def test_a_slow_node_sets_the_pace_of_all() -> None:
    disturbed = Disturbances(jitter=0.0, slow_nodes=(3,), slow_factor=1.5)
    simulated = simulate(RESNET50, FREE, 32, 8, 5, disturbed)
    slow = 1.5 * (0.002 + 0.05 + 0.1) + 0.005 + 0.001
    assert simulated.step_seconds == pytest.approx(slow)
    assert set(simulated.slowest_rank) <= {12, 13, 14, 15}


def test_negotiation_adds_to_every_bucket_that_is_exposed() -> None:
    plain = simulate(RESNET50, SLOW, 16, 16, 3, CALM).step_seconds.mean()
    agreed = simulate(RESNET50, SLOW, 16, 16, 3, Disturbances(jitter=0.0, negotiated=True)).step_seconds.mean()
    assert 0.5e-3 <= agreed - plain < 2e-3


@pytest.mark.parametrize(("name", "ranks"), [("perlmutter", 7168), ("aurora", 127_488)])
def test_full_machines_take_seconds(name: str, ranks: int) -> None:
    machine = machines.load(name)
    assert machine.node.count * machine.ranks.per_node == ranks
    disturbed = Disturbances(hiccup_probability=1e-5, hiccup_seconds=0.05, slow_nodes=(7,), slow_factor=1.05)
    start = time.perf_counter()
    simulated = simulate(RESNET50, from_machine(machine).network, ranks, machine.node.count, 100, disturbed)
    assert time.perf_counter() - start < 60
    assert len(simulated.step_seconds) == 100
    assert (simulated.step_seconds > RESNET50.local_seconds).all()


def test_suppositions_only_slow_a_calm_machine_down() -> None:
    rows = what_if(RESNET50, SLOW, 0.01, 64, 16, steps=50)
    assert rows[0].slowdown == 1
    assert all(row.slowdown > 1 for row in rows[1:])
    assert rows[2].step_seconds > rows[1].step_seconds
