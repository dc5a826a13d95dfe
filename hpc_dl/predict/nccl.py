# SPDX-License-Identifier: Apache-2.0
"""NCCL's own cost model of an allreduce, by which it chooses between ring and tree and between its three protocols.

Constants and formulas as in NCCL, src/graph/tuning.cc, revision 5067397c (June 2026). Of the algorithms only ring and
tree are here: those every GPU and network has.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

PROTOCOLS = ("LL", "LL128", "Simple")
MICROSECOND = 1e-6

BASE_LATENCY = {"tree": (6.8, 14.0, 8.4), "ring": (6.6, 14.0, 8.4)}
"""Microseconds per call, by protocol."""
HOP_LATENCY = {
    "nvlink": {"tree": (0.6, 1.25, 4.0), "ring": (0.6, 1.9, 3.4)},
    "pci": {"tree": (1.0, 1.9, 4.0), "ring": (1.0, 2.5, 5.7)},
    "net": {"tree": (5.0, 8.5, 14.0), "ring": (2.7, 4.0, 14.0)},
}
"""Microseconds per hop, by hardware, algorithm and protocol."""
LL_MAXIMUM = {"volta": (39.0, 39.0, 20.4), "ampere": (87.7, 22.5, 19.0), "hopper": (141.0, 45.0, 35.0)}
"""GB/s that LL reaches on 1, 2 and more nodes (beyond one node NCCL looks at the CPU: Intel volta, AMD ampere)."""
NET_OVERHEAD = 2.0
"""Microseconds to post a network operation on an AMD host (1.0 on Intel)."""
TREE_CORRECTION = {
    "LL": (1, 1, 1, 1, 0.9, 0.8, 0.7, 0.7, 0.7, 0.7, 0.6, 0.5, 0.4, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1, 1, 1, 1),
    "LL128": (1, 1, 1, 1, 1, 0.9, 0.8, 0.8, 0.8, 0.7, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.8, 0.9, 0.9, 0.9, 0.9, 1, 1, 1),
    "Simple": (
        *(0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.8, 0.7, 0.6, 0.6, 0.5),
        *(0.5, 0.5, 0.5, 0.6, 0.7, 0.8, 0.7, 0.7, 0.8, 0.9, 0.9, 0.9),
    ),
}
"""Share of the tree's bandwidth reached at 64 B, 128 B, ... 256 MB."""


@dataclass(frozen=True)
class Fabric:
    """What NCCL's model needs to know of a machine."""

    per_node: int
    """GPUs of one node."""
    inside_bytes_per_second: float
    """Bus bandwidth of a ring within a node, all channels together."""
    across_bytes_per_second: float
    """Network bandwidth of a node, all NICs together."""
    inside: str = "nvlink"
    """"nvlink" or "pci"."""
    generation: str = "ampere"
    """Row of `LL_MAXIMUM`."""
    ll128_across: bool = False
    """LL128 over the network: NCCL allows it where GPU and NIC share a PCIe switch (before Hopper)."""
    balanced_tree: bool = True
    """False where one GPU of a node carries both sides of the tree (a node with one NIC): 0.85 of the bandwidth."""
    channels: int = 8
    """Parallel rings or trees."""


@dataclass(frozen=True)
class Choice:
    """What NCCL would run, and its estimate."""

    seconds: float
    algorithm: str
    protocol: str


def allreduce(size_bytes: float, nodes: int, fabric: Fabric, latency_factor: float = 1.0) -> Choice:
    """The cheapest of ring and tree over the three protocols, as NCCL's tuner reckons.

    Args:
        size_bytes: Of one rank's buffer.
        nodes: With `fabric.per_node` ranks each.
        fabric: The machine.
        latency_factor: On all latencies: by how much the machine is slower than NCCL believes.
    """
    ranks = nodes * fabric.per_node
    if ranks == 1:
        return Choice(0.0, "none", "none")
    choices = [
        Choice(
            latency_factor * _latency(algorithm, index, size_bytes, nodes, fabric) + size_bytes / speed,
            algorithm,
            protocol,
        )
        for algorithm in ("ring", "tree")
        for index, protocol in enumerate(PROTOCOLS)
        if (speed := _bytes_per_second(algorithm, protocol, size_bytes, nodes, fabric)) > 0
    ]
    return min(choices, key=lambda choice: choice.seconds)


def _latency(algorithm: str, protocol: int, size_bytes: float, nodes: int, fabric: Fabric) -> float:
    """Seconds before the first byte: base + steps over both kinds of hop."""
    ranks = nodes * fabric.per_node
    inside = HOP_LATENCY[fabric.inside][algorithm][protocol]
    # With one rank a node latencies cannot be hidden: NCCL then counts the tree's for the ring as well.
    across = HOP_LATENCY["net"]["tree" if fabric.per_node == 1 else algorithm][protocol]
    if algorithm == "ring":
        if nodes > 1:
            inside = max(inside, NET_OVERHEAD * (3 if PROTOCOLS[protocol] == "Simple" else 1))
        hops = 2 * (ranks - 1) - 2 * (nodes - 1)
        total = hops * inside + 2 * (nodes - 1) * across
    else:
        total = 2 * ((fabric.per_node - 1) * inside + math.floor(math.log2(nodes)) * across)
    total += BASE_LATENCY[algorithm][protocol]
    plateau = algorithm == "ring" and PROTOCOLS[protocol] == "Simple" and nodes > 1
    if plateau and size_bytes / (fabric.channels * ranks) >= 64:
        total *= 1.9 if fabric.generation == "volta" else 1.4
    return total * MICROSECOND


def _bytes_per_second(algorithm: str, protocol: str, size_bytes: float, nodes: int, fabric: Fabric) -> float:
    """Algorithm bandwidth (size over time); 0 where NCCL would not use the protocol."""
    if protocol == "LL128" and nodes > 1 and not fabric.ll128_across:
        return 0.0
    ranks = nodes * fabric.per_node
    # Over two nodes a tree sends every byte once where a ring sends it twice.
    network = fabric.across_bytes_per_second * (2 if algorithm == "tree" and nodes == 2 else 1)
    bus = fabric.inside_bytes_per_second if fabric.per_node > 1 else network
    if nodes > 1:
        bus = min(bus, network)
    ll_limit = LL_MAXIMUM[fabric.generation][min(nodes, 3) - 1] * 1e9
    if algorithm == "ring":
        bus = {"LL": min(ll_limit, bus * 0.5), "LL128": bus * 0.92, "Simple": bus}[protocol]
        return bus * ranks / (2 * (ranks - 1))
    bus *= 0.92 if fabric.balanced_tree else 0.92 * 0.85
    bus = {"LL": min(bus / 3.8, ll_limit), "LL128": bus * (7 / 9 if nodes == 1 else 120 / 128), "Simple": bus}[protocol]
    step = int(math.log2(size_bytes / 64)) if size_bytes >= 64 else -1
    correction = TREE_CORRECTION[protocol][step] if 0 <= step < 23 else 1.0
    return bus * 0.5 * correction
