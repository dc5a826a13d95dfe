# SPDX-License-Identifier: Apache-2.0
"""Horovod's control plane against what was seen at scale."""

from hpc_dl.predict.collectives import Link
from hpc_dl.predict.control import CYCLE_SECONDS, coordinator_messages, negotiation_seconds, uncached_seconds
from hpc_dl.predict.network import LinkedNetwork

NETWORK = LinkedNetwork("mpich", Link(1e-6, 1e-10), Link(5e-6, 1e-9))


def test_summit_saw_millions_of_messages_and_a_tree_left_thousands() -> None:
    """27,360 ranks, somewhat more than a hundred gradients, about a step a second (Kurth et al. 2018)."""
    assert 2e6 < coordinator_messages(27_360, 110) < 5e6
    assert coordinator_messages(27_360, 110, radix=8) < 1e3
    assert uncached_seconds(27_360, 110, 1e-6) > 5.0
    assert uncached_seconds(27_360, 110, 1e-6, radix=8) < 0.02


def test_cached_tensors_cost_half_a_cycle_and_a_small_allreduce() -> None:
    assert negotiation_seconds(NETWORK, 1, 1) == 0
    few, many = (negotiation_seconds(NETWORK, nodes, nodes) for nodes in (2, 1024))
    assert CYCLE_SECONDS / 2 < few < many < CYCLE_SECONDS
