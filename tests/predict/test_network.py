# SPDX-License-Identifier: Apache-2.0
"""Networks: bounds at every level, libraries' ways, and NCCL's model against measured collectives."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc_dl.cluster import machines
from hpc_dl.cluster.machine import Machine, Node, Ranks
from hpc_dl.errors import HpcDlError
from hpc_dl.predict.collectives import Link, lower_bound
from hpc_dl.predict.machine import from_machine
from hpc_dl.predict.network import LinkedNetwork, NcclNetwork

# argonne-lcf/alcf-nccl-tests, results_polaris, runs of October 2023 and April 2024: nodes, bytes, microseconds
POLARIS = [
    *[(2, 4, 25), (2, 2**20, 176), (2, 2**24, 858), (2, 2**26, 3330), (2, 2**30, 52_100)],
    *[(8, 4, 50), (8, 2**20, 328), (8, 2**24, 2410), (8, 2**26, 3710), (8, 2**30, 57_700)],
    *[(256, 4, 118), (256, 1024, 134), (256, 2**20, 757), (256, 2**24, 3450), (256, 2**26, 6780)],
    *[(256, 2**28, 19_600), (256, 2**30, 70_700)],
]
links = st.builds(Link, st.floats(0, 1e-3), st.floats(0, 1e-7), st.floats(0, 1e-8))


def test_polaris_as_measured() -> None:
    """From 4 bytes to 1 GiB and 2 to 256 nodes: half of the points within 25 %, all within a factor of 2."""
    network = from_machine(machines.load("polaris")).network
    ratios = np.array([network.one(4 * n, n, size) * 1e6 / t for n, size, t in POLARIS])
    assert np.median(np.abs(np.log(ratios))) < np.log(1.25)
    assert np.max(np.abs(np.log(ratios))) < np.log(2)


@given(
    st.sampled_from(["mpich", "gloo", "oneccl"]),
    st.integers(1, 12),
    st.integers(1, 2000),
    st.floats(0, 1e10),
    links,
    links,
)
def test_no_network_beats_the_bounds(
    library: str, per_node: int, nodes: int, size: float, inside: Link, across: Link
) -> None:
    network = LinkedNetwork(library, inside, across)
    seconds = network.one(per_node * nodes, nodes, size)
    triples = zip(vars(inside).values(), vars(across.scaled(per_byte=per_node)).values(), strict=True)
    fastest = Link(*map(min, triples)) if nodes > 1 and per_node > 1 else (inside if nodes == 1 else across)
    latency, bandwidth, _ = lower_bound(per_node * nodes, size, fastest)
    assert seconds >= max(latency, bandwidth if nodes == 1 or per_node == 1 else 0.0) * (1 - 1e-12)
    # Each node passes 2(N-1)/N n bytes through its own NICs.
    assert seconds >= 2 * (nodes - 1) / nodes * size * across.seconds_per_byte * (1 - 1e-12)


def test_several_buckets_cost_what_each_costs() -> None:
    network = from_machine(machines.load("perlmutter")).network
    sizes = np.array([1e6, 25e6, 25e6])
    assert network.seconds(64, 16, sizes).tolist() == [network.one(64, 16, size) for size in sizes]


def test_scaling_a_network_scales_its_costs() -> None:
    network = LinkedNetwork("gloo", Link(1e-6, 1e-10), Link(1e-5, 1e-9))
    twice = network.scaled(2.0, 2.0)
    assert twice.one(8, 8, 1e6) == pytest.approx(2 * network.one(8, 8, 1e6))
    nccl = from_machine(machines.load("perlmutter")).network
    assert isinstance(nccl, NcclNetwork)
    assert nccl.scaled(1.0, 0.5).one(4096, 1024, 1e9) < nccl.one(4096, 1024, 1e9)


def test_a_machine_of_your_own_needs_its_nics() -> None:
    unknown = Machine("mine", device="cuda", ranks=Ranks(per_node=8))
    with pytest.raises(HpcDlError, match="names no NICs"):
        from_machine(unknown)
    prior = from_machine(
        Machine("mine", device="cuda", ranks=Ranks(per_node=8), node=Node(nics=8, nic_gigabytes_per_second=50.0))
    )
    assert prior.spread == 0.7
    assert prior.network.one(16, 2, 1e9) >= 1e9 / 400e9
