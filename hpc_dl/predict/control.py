# SPDX-License-Identifier: Apache-2.0
"""Horovod's control plane: how long ranks take to agree on what to sum next, and the messages it costs.

Every cycle (HOROVOD_CYCLE_TIME, 1 ms) ranks agree by an allreduce of one bit per cached tensor; a tensor that is not in
the cache is announced to rank 0 by every rank, which answers all. At 27,360 ranks the latter reached millions of
messages a second and was replaced by a tree of radix r (Kurth et al. 2018, arXiv 1810.01993).
"""

from __future__ import annotations

import math

from hpc_dl.predict.network import Network

CYCLE_SECONDS = 1e-3
"""HOROVOD_CYCLE_TIME of 0.28.1, docs/autotune.rst and operations.cc."""
CACHE_ENTRIES = 1024
"""HOROVOD_CACHE_CAPACITY, likewise: a bit each."""


def negotiation_seconds(network: Network, ranks: int, nodes: int, cycle_seconds: float = CYCLE_SECONDS) -> float:
    """Mean delay of a bucket whose tensors are cached: half a cycle, then the allreduce of the bits."""
    if ranks == 1:
        return 0.0
    return cycle_seconds / 2 + network.one(ranks, nodes, CACHE_ENTRIES / 8)


def coordinator_messages(ranks: int, tensors: int, radix: int | None = None) -> int:
    """Messages that the busiest rank receives to agree on so many uncached tensors, flat or by a tree of a radix."""
    return tensors * (ranks - 1 if radix is None else min(radix, ranks - 1))


def uncached_seconds(ranks: int, tensors: int, message_seconds: float, radix: int | None = None) -> float:
    """Time of that agreement: the busiest rank receives and answers, on every level of the tree.

    Args:
        ranks, tensors: Each rank announces each tensor.
        message_seconds: What the coordinator spends on one message.
        radix: Children of a rank in the tree; None for Horovod as it ships.
    """
    levels = 1 if radix is None or ranks < 2 else math.ceil(math.log(ranks, radix))
    return 2 * levels * coordinator_messages(ranks, tensors, radix) * message_seconds
