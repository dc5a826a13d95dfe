# SPDX-License-Identifier: Apache-2.0
"""What the sum of a bucket costs between so many ranks on so many nodes, as the library at hand would do it.

A network can be scaled in latency and in time per byte: that is how runs of the user correct it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hpc_dl.predict import collectives, nccl
from hpc_dl.predict import library as libraries
from hpc_dl.predict.collectives import Link
from hpc_dl.predict.fit import Fit

Floats = NDArray[np.float64]


class Network(ABC):
    """Costs of an allreduce."""

    @abstractmethod
    def one(self, ranks: int, nodes: int, size_bytes: float) -> float:
        """Seconds of one allreduce."""

    @abstractmethod
    def scaled(self, latency: float, per_byte: float) -> Network:
        """The network with its latency and its time per byte multiplied."""

    def seconds(self, ranks: int, nodes: int, size_bytes: Floats) -> Floats:
        """Seconds of each of several allreduces."""
        known = {size: self.one(ranks, nodes, float(size)) for size in np.unique(size_bytes)}
        return np.array([known[size] for size in size_bytes])


@dataclass(frozen=True)
class MeasuredNetwork(Network):
    """Ranks that are all alike, as `hpc-dl bench` measured them."""

    fit: Fit

    def one(self, ranks: int, nodes: int, size_bytes: float) -> float:
        return self.fit.seconds("allreduce", ranks, size_bytes)

    def scaled(self, latency: float, per_byte: float) -> MeasuredNetwork:
        pieces = tuple(replace(piece, link=piece.link.scaled(latency, per_byte)) for piece in self.fit.pieces)
        return MeasuredNetwork(replace(self.fit, pieces=pieces))


@dataclass(frozen=True)
class LinkedNetwork(Network):
    """Nodes with a link inside and a link across, from a machine record or from nothing but a guess."""

    library: str
    inside: Link
    across: Link
    """Of a whole node: its NICs together."""

    def one(self, ranks: int, nodes: int, size_bytes: float) -> float:
        if ranks == 1:
            return 0.0
        if nodes == 1:
            return self._flat(ranks, size_bytes, self.inside)
        per_node = math.ceil(ranks / nodes)
        if per_node == 1:
            return self._flat(nodes, size_bytes, self.across)
        return self._two_levels(per_node, nodes, size_bytes)

    def _flat(self, p: int, size_bytes: float, link: Link) -> float:
        formula = collectives.ALGORITHMS[libraries.algorithm(self.library, "allreduce", p, size_bytes)]
        return float(formula(p, size_bytes, link))

    def _two_levels(self, per_node: int, nodes: int, size_bytes: float) -> float:
        if self.library == "gloo":
            # One ring through all ranks: the network carries one of its edges per node, at the pace of the slower link.
            slow = Link(*(max(pair) for pair in zip(_triple(self.inside), _triple(self.across), strict=True)))
            return float(collectives.ring(per_node * nodes, size_bytes, slow))
        if self.library == "mpich":
            # Reduce to one rank of each node, sum between those, broadcast (MPICH's composition alpha).
            return float(collectives.binomial(per_node, size_bytes, self.inside)) + self._flat(
                nodes, size_bytes, self.across
            )
        # Reduce-scatter in the node, sum of each share across, allgather: every rank takes its part of the NICs.
        share = self.across.scaled(per_byte=per_node)
        within = float(collectives.hierarchical(per_node, 1, size_bytes, self.inside, share))
        return within + self._flat(nodes, size_bytes / per_node, share)

    def scaled(self, latency: float, per_byte: float) -> LinkedNetwork:
        return LinkedNetwork(self.library, self.inside.scaled(latency, per_byte), self.across.scaled(latency, per_byte))


@dataclass(frozen=True)
class NcclNetwork(Network):
    """NVIDIA GPUs, by NCCL's own cost model."""

    fabric: nccl.Fabric
    latency_factor: float = 1.0

    def one(self, ranks: int, nodes: int, size_bytes: float) -> float:
        fabric = replace(self.fabric, per_node=math.ceil(ranks / nodes))
        return nccl.allreduce(size_bytes, nodes, fabric, self.latency_factor).seconds

    def scaled(self, latency: float, per_byte: float) -> NcclNetwork:
        fabric = replace(
            self.fabric,
            inside_bytes_per_second=self.fabric.inside_bytes_per_second / per_byte,
            across_bytes_per_second=self.fabric.across_bytes_per_second / per_byte,
        )
        return NcclNetwork(fabric, self.latency_factor * latency)


def _triple(link: Link) -> tuple[float, float, float]:
    return link.latency_seconds, link.seconds_per_byte, link.reduce_seconds_per_byte
