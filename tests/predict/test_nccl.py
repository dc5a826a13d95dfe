# SPDX-License-Identifier: Apache-2.0
"""NCCL's cost model: the known consequences of its constants, and the bandwidth bound."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc_dl.predict.nccl import Fabric, allreduce

PERLMUTTER = Fabric(per_node=4, inside_bytes_per_second=200e9, across_bytes_per_second=100e9)


def test_small_messages_go_by_tree_and_large_ones_by_ring_on_few_nodes() -> None:
    assert allreduce(1e3, 64, PERLMUTTER).algorithm == "tree"
    assert allreduce(1e3, 64, PERLMUTTER).protocol == "LL"
    large = allreduce(4e9, 4, PERLMUTTER)
    assert (large.algorithm, large.protocol) == ("ring", "Simple")


def test_at_a_thousand_nodes_the_tree_wins_for_a_gradient_bucket() -> None:
    """A Simple ring costs 28 us and more for each further node: at 1000 nodes more than 25 MB need by tree."""
    choice = allreduce(25e6, 1000, PERLMUTTER)
    assert choice.algorithm == "tree"
    assert choice.seconds < 2e-3


def test_latency_of_a_tree_grows_by_one_level_for_each_doubling() -> None:
    step = allreduce(8, 128, PERLMUTTER).seconds - allreduce(8, 64, PERLMUTTER).seconds
    assert step == pytest.approx(2 * 5.0e-6)


@given(st.integers(1, 4000), st.floats(1, 1e10), st.integers(1, 12))
def test_never_below_the_network_bound(nodes: int, size: float, per_node: int) -> None:
    fabric = Fabric(per_node, 200e9, 100e9)
    assert allreduce(size, nodes, fabric).seconds >= 2 * (nodes - 1) / nodes * size / 100e9 * (1 - 1e-12)


def test_one_gpu_costs_nothing() -> None:
    assert allreduce(1e6, 1, Fabric(1, 1e9, 1e9)).seconds == 0
