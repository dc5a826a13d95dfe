# SPDX-License-Identifier: Apache-2.0
"""What an allreduce costs: one formula per algorithm, and the bounds none of them may beat.

Symbols: p ranks, n bytes, alpha seconds per message, beta seconds per byte, gamma seconds per byte reduced.
Sources: Thakur, Rabenseifner, Gropp, "Optimization of collective communication operations in MPICH" (2005);
Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms" (2009); Sanders, Speck, Traeff, "Two-tree algorithms"
(2009); Mikami et al., arXiv 1811.05233 (2D torus). `size_bytes` may be an array; the answer has its shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Size = Any  # float or numpy array of bytes


@dataclass(frozen=True)
class Link:
    """What one message between two ranks costs."""

    latency_seconds: float
    """alpha: per message, whatever its size."""
    seconds_per_byte: float
    """beta: 1 / bandwidth."""
    reduce_seconds_per_byte: float = 0.0
    """gamma: adding one byte to another."""

    @classmethod
    def of(cls, latency_seconds: float, bytes_per_second: float, reduced_bytes_per_second: float = math.inf) -> Link:
        """A link from bandwidths in place of times per byte."""
        return cls(latency_seconds, 1 / bytes_per_second, 1 / reduced_bytes_per_second)

    def scaled(self, latency: float = 1.0, per_byte: float = 1.0) -> Link:
        """The link with its latency and its times per byte multiplied."""
        return Link(
            self.latency_seconds * latency, self.seconds_per_byte * per_byte, self.reduce_seconds_per_byte * per_byte
        )


def ring(p: int, size_bytes: Size, link: Link) -> Size:
    """2(p-1) alpha + 2(p-1)/p n beta + (p-1)/p n gamma: least bytes, latency linear in p."""
    share = (p - 1) / p * size_bytes
    return 2 * (p - 1) * link.latency_seconds + share * (2 * link.seconds_per_byte + link.reduce_seconds_per_byte)


def recursive_doubling(p: int, size_bytes: Size, link: Link) -> Size:
    """log2(p) (alpha + n beta + n gamma): least messages; ranks beyond a power of two are folded in first."""
    whole = link.latency_seconds + size_bytes * (link.seconds_per_byte + link.reduce_seconds_per_byte)
    return math.floor(math.log2(p)) * whole + _fold(p, size_bytes, link)


def rabenseifner(p: int, size_bytes: Size, link: Link) -> Size:
    """2 log2(q) alpha + (q-1)/q n (2 beta + gamma), q the power of two in p; the other ranks are folded in first."""
    q = 1 << int(math.log2(p))
    share = (q - 1) / q * size_bytes
    halving = 2 * math.log2(q) * link.latency_seconds
    halving += share * (2 * link.seconds_per_byte + link.reduce_seconds_per_byte)
    return halving + _fold(p, size_bytes, link)


def binomial(p: int, size_bytes: Size, link: Link) -> Size:
    """2 ceil(log2 p) (alpha + n beta) + ceil(log2 p) n gamma: reduce to one rank, then broadcast."""
    depth = _depth(p)
    return depth * (2 * link.latency_seconds + size_bytes * (2 * link.seconds_per_byte + link.reduce_seconds_per_byte))


def double_tree(p: int, size_bytes: Size, link: Link) -> Size:
    """2 ceil(log2 p) alpha + 2 n beta + n gamma: two pipelined trees, each inner rank of one a leaf of the other.

    The pipeline is taken as full; NCCL's correction for middle sizes is in `nccl.py`.
    """
    if p == 1:
        return 0.0 * size_bytes
    per_byte = 2 * link.seconds_per_byte + link.reduce_seconds_per_byte
    return 2 * _depth(p) * link.latency_seconds + size_bytes * per_byte


def direct(p: int, size_bytes: Size, link: Link, overhead_seconds: float = 0.0) -> Size:
    """2 alpha + 2(p-1) o + 2(p-1)/p n beta: every rank sends to every other (o: per message sent)."""
    if p == 1:
        return 0.0 * size_bytes
    # Fewer than ceil(log2 p) message times cannot inform p ranks unless a send is free: charge at least that.
    messages = max(2 * link.latency_seconds + 2 * (p - 1) * overhead_seconds, _depth(p) * link.latency_seconds)
    share = (p - 1) / p * size_bytes
    return messages + share * (2 * link.seconds_per_byte + link.reduce_seconds_per_byte)


def torus(p: int, size_bytes: Size, link: Link) -> Size:
    """Reduce-scatter in rows, ring allreduce in columns, allgather in rows: a ring's bytes in about 4 sqrt(p) steps.

    The grid is the most nearly square one that p allows; a prime p leaves a ring.
    """
    columns = next(x for x in range(math.isqrt(p), 0, -1) if p % x == 0)
    return hierarchical(columns, p // columns, size_bytes, inside=link, across=link)


def hierarchical(per_node: int, nodes: int, size_bytes: Size, inside: Link, across: Link) -> Size:
    """Reduce-scatter in each node, ring between nodes of every rank's share, allgather in each node.

    `across` is one rank's own link to the network: beta of the node's NICs times the ranks that share them.
    """
    share = (per_node - 1) / per_node * size_bytes
    within = 2 * (per_node - 1) * inside.latency_seconds
    within += share * (2 * inside.seconds_per_byte + inside.reduce_seconds_per_byte)
    return within + ring(nodes, size_bytes / per_node, across)


def ring_allgather(p: int, size_bytes: Size, link: Link) -> Size:
    """(p-1) alpha + (p-1)/p n beta, n the bytes every rank has in the end."""
    return (p - 1) * link.latency_seconds + (p - 1) / p * size_bytes * link.seconds_per_byte


def doubling_allgather(p: int, size_bytes: Size, link: Link) -> Size:
    """ceil(log2 p) alpha + (p-1)/p n beta: recursive doubling, or Bruck's algorithm where p is no power of two."""
    return _depth(p) * link.latency_seconds + (p - 1) / p * size_bytes * link.seconds_per_byte


def ring_reduce_scatter(p: int, size_bytes: Size, link: Link) -> Size:
    """(p-1) alpha + (p-1)/p n (beta + gamma), n the bytes every rank starts with; pairwise exchange costs the same."""
    per_byte = link.seconds_per_byte + link.reduce_seconds_per_byte
    return (p - 1) * link.latency_seconds + (p - 1) / p * size_bytes * per_byte


def halving_reduce_scatter(p: int, size_bytes: Size, link: Link) -> Size:
    """ceil(log2 p) alpha + (p-1)/p n (beta + gamma): recursive halving."""
    per_byte = link.seconds_per_byte + link.reduce_seconds_per_byte
    return _depth(p) * link.latency_seconds + (p - 1) / p * size_bytes * per_byte


def binomial_broadcast(p: int, size_bytes: Size, link: Link) -> Size:
    """ceil(log2 p) (alpha + n beta)."""
    return _depth(p) * (link.latency_seconds + size_bytes * link.seconds_per_byte)


def scatter_broadcast(p: int, size_bytes: Size, link: Link) -> Size:
    """(ceil(log2 p) + p-1) alpha + 2(p-1)/p n beta: binomial scatter, ring allgather."""
    share = (p - 1) / p * size_bytes
    return (_depth(p) + p - 1) * link.latency_seconds + 2 * share * link.seconds_per_byte


def lower_bound(p: int, size_bytes: Size, link: Link) -> tuple[Size, Size, Size]:
    """Seconds no allreduce can beat: by latency, by bandwidth and by reduction (Chan et al. 2007, table 1)."""
    share = (p - 1) / p * size_bytes
    latency = _depth(p) * link.latency_seconds + 0.0 * size_bytes
    return latency, 2 * share * link.seconds_per_byte, share * link.reduce_seconds_per_byte


FLAT: dict[str, Callable[[int, Size, Link], Size]] = {
    "ring": ring,
    "recursive-doubling": recursive_doubling,
    "rabenseifner": rabenseifner,
    "binomial": binomial,
    "double-tree": double_tree,
    "direct": direct,
    "torus": torus,
}
"""Algorithms of an allreduce in which all ranks are alike."""
OTHERS: dict[str, Callable[[int, Size, Link], Size]] = {
    "ring-allgather": ring_allgather,
    "doubling-allgather": doubling_allgather,
    "ring-reduce-scatter": ring_reduce_scatter,
    "halving-reduce-scatter": halving_reduce_scatter,
    "binomial-broadcast": binomial_broadcast,
    "scatter-broadcast": scatter_broadcast,
}
"""Algorithms of other collectives."""
ALGORITHMS = {**FLAT, **OTHERS}


def _depth(p: int) -> int:
    return (p - 1).bit_length()


def _fold(p: int, size_bytes: Size, link: Link) -> Size:
    """Ranks beyond the largest power of two hand over their data first and get the sum last."""
    if p & (p - 1) == 0:
        return 0.0 * size_bytes
    per_byte = 2 * link.seconds_per_byte + link.reduce_seconds_per_byte
    return 2 * link.latency_seconds + size_bytes * per_byte
