# SPDX-License-Identifier: Apache-2.0
"""One training step at any size: what a rank computes, what of the exchange is exposed, who waits for whom.

step = input + forward + max(backward, end of the last bucket) + optimizer + other + stragglers
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hpc_dl.predict.control import negotiation_seconds
from hpc_dl.predict.network import Network
from hpc_dl.predict.overlap import Buckets, exposed_seconds
from hpc_dl.predict.stragglers import normal_maximum


@dataclass(frozen=True)
class Workload:
    """The step of one rank, as if it were alone; seconds per optimizer step."""

    name: str
    local_batch: float
    input_seconds: float
    forward_seconds: float
    backward_seconds: float
    optimizer_seconds: float
    other_seconds: float
    buckets: Buckets
    accumulation: int = 1
    """Micro-steps per step: backward is spread over so many, only the last one hides the exchange."""

    @property
    def local_seconds(self) -> float:
        """All that is not exchange."""
        compute = self.forward_seconds + self.backward_seconds + self.optimizer_seconds
        return self.input_seconds + compute + self.other_seconds

    def scaled(self, local_batch: float, fixed_share: float = 0.0) -> Workload:
        """The workload at another local batch: `fixed_share` of a step does not shrink with it."""
        ratio = fixed_share + (1 - fixed_share) * local_batch / self.local_batch
        return replace(
            self,
            local_batch=local_batch,
            input_seconds=self.input_seconds * ratio,
            forward_seconds=self.forward_seconds * ratio,
            backward_seconds=self.backward_seconds * ratio,
        )


@dataclass(frozen=True)
class Habits:
    """How ranks of a system behave, beyond their network."""

    jitter: float = 0.01
    """Standard deviation between ranks of the time of one step, as a share of it."""
    visible: float = 0.0
    """Share of the exchange that is exposed however long backward is."""
    negotiated: bool = False
    """Horovod agrees on each bucket first, and the network's costs do not hold that already."""


@dataclass(frozen=True)
class Step:
    """A predicted step; the parts sum to it."""

    ranks: int
    nodes: int
    samples: float
    """Of all ranks in a step."""
    input_seconds: float
    compute_seconds: float
    """Forward, backward and optimizer."""
    exposed_seconds: float
    """Exchange that outlasts backward."""
    straggler_seconds: float
    other_seconds: float

    @property
    def seconds(self) -> float:
        parts = self.input_seconds + self.compute_seconds + self.other_seconds
        return parts + self.exposed_seconds + self.straggler_seconds

    @property
    def cost(self) -> float:
        """Rank-seconds per sample: efficiency is the baseline's over this."""
        return self.seconds * self.ranks / self.samples


def predict_step(workload: Workload, network: Network, habits: Habits, ranks: int, nodes: int) -> Step:
    """The step of `workload` on `ranks` ranks of `nodes` nodes."""
    w = workload
    return Step(
        ranks=ranks,
        nodes=nodes,
        samples=w.local_batch * ranks,
        input_seconds=w.input_seconds,
        compute_seconds=w.forward_seconds + w.backward_seconds + w.optimizer_seconds,
        exposed_seconds=exchange_seconds(w, network, habits, ranks, nodes),
        straggler_seconds=straggler_seconds(w, habits, ranks),
        other_seconds=w.other_seconds,
    )


def exchange_seconds(workload: Workload, network: Network, habits: Habits, ranks: int, nodes: int) -> float:
    """Exposed exchange: what outlasts backward, and never less than the visible share of the whole."""
    if ranks == 1:
        return 0.0
    costs = network.seconds(ranks, nodes, workload.buckets.size_bytes)
    hiding = workload.backward_seconds / workload.accumulation
    delay = negotiation_seconds(network, ranks, nodes) if habits.negotiated else 0.0
    exposed = exposed_seconds(hiding, workload.buckets, costs, delay)
    return max(exposed, min(habits.visible, 1.0) * float(np.sum(costs)))


def straggler_seconds(workload: Workload, habits: Habits, ranks: int) -> float:
    """Expected wait for the slowest of the ranks, whose times are taken as independent and normal."""
    return habits.jitter * workload.local_seconds * normal_maximum(ranks)
