# SPDX-License-Identifier: Apache-2.0
"""A whole machine, step by step: every rank's own times, buckets that wait for the last rank, slow nodes, hiccups.

The formulas of `step.py` treat jitter and buckets apart. Here each rank reaches each bucket at its own time, a bucket
starts when all ranks have it and the one before is through, and what that costs together is seen. Numpy does all ranks
of a step at once: 127,488 ranks x 100 steps take seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hpc_dl.predict.control import negotiation_seconds
from hpc_dl.predict.network import Network
from hpc_dl.predict.overlap import pipeline_end
from hpc_dl.predict.step import Workload

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Disturbances:
    """What makes ranks differ."""

    jitter: float = 0.01
    """Standard deviation of a rank's time of one phase, as a share of it; independent for forward and backward."""
    hiccup_probability: float = 0.0
    """That a rank is interrupted in a step, at a random moment of backward."""
    hiccup_seconds: float = 0.0
    """Mean length of such an interruption, exponentially distributed."""
    slow_nodes: tuple[int, ...] = ()
    slow_factor: float = 1.0
    """All ranks of a slow node take so many times as long."""
    congestion: float = 0.0
    """Standard deviation of the logarithm of each bucket's cost, from bucket to bucket."""
    negotiated: bool = False
    """Horovod agrees on each bucket first."""


@dataclass(frozen=True)
class Simulation:
    """Simulated steps, one entry each."""

    ranks: int
    nodes: int
    step_seconds: Floats
    exposed_seconds: Floats
    """After the slowest rank's backward."""
    straggler_seconds: Floats
    """Slowest rank's own time over the mean one's."""
    slowest_rank: NDArray[np.int64]


def simulate(
    workload: Workload,
    network: Network,
    ranks: int,
    nodes: int,
    steps: int,
    disturbances: Disturbances | None = None,
    seed: int = 0,
) -> Simulation:
    """Simulate `steps` synchronous steps.

    A step ends on all ranks at once, since the last bucket needs them all: steps are independent of each other.
    """
    d = disturbances or Disturbances()
    generator = np.random.default_rng(seed)
    factors = _factors(ranks, nodes, d)
    costs = network.seconds(ranks, nodes, workload.buckets.size_bytes)
    delay = negotiation_seconds(network, ranks, nodes) if d.negotiated else 0.0
    rows = [_step(workload, factors, costs, delay, d, generator) for _ in range(steps)]
    seconds, exposed, straggling, slowest = (np.array(column) for column in zip(*rows, strict=True))
    return Simulation(ranks, nodes, seconds, exposed, straggling, slowest.astype(np.int64))


def _factors(ranks: int, nodes: int, d: Disturbances) -> Floats:
    """How slow each rank always is; ranks fill nodes one after another."""
    factors = np.ones(ranks)
    per_node = -(-ranks // nodes)
    for node in d.slow_nodes:
        factors[node * per_node : (node + 1) * per_node] = d.slow_factor
    return factors


def _step(
    w: Workload, factors: Floats, costs: Floats, delay: float, d: Disturbances, generator: np.random.Generator
) -> tuple[float, float, float, int]:
    """Seconds of the step, exposed exchange, straggling, and the rank that was slowest."""
    ranks = len(factors)
    noise = generator.standard_normal((2, ranks)) * d.jitter
    before = (w.input_seconds + w.forward_seconds) * factors * np.maximum(1 + noise[0], 0.0)
    backward = w.backward_seconds * factors * np.maximum(1 + noise[1], 0.0)
    own = before + backward
    # All but the last micro-step's backward is over before the first bucket can be full.
    start = before + backward * (1 - 1 / w.accumulation)
    last = backward / w.accumulation
    hiccup = _hiccups(ranks, d, generator)
    ready = np.array([_last_ready(start, last, share, hiccup) for share in w.buckets.ready])
    if hiccup is not None:
        own = own + hiccup[1]
    if d.congestion:
        costs = costs * np.exp(generator.standard_normal(len(costs)) * d.congestion)
    end = float(pipeline_end(ready, costs, delay)) if ranks > 1 else 0.0
    slowest = float(own.max())
    rest = w.optimizer_seconds + w.other_seconds
    return max(slowest, end) + rest, max(0.0, end - slowest), slowest - float(own.mean()), int(own.argmax())


def _hiccups(ranks: int, d: Disturbances, generator: np.random.Generator) -> tuple[Floats, Floats] | None:
    """Per rank the moment of its interruption, as a share of backward, and its seconds (0 for most)."""
    if d.hiccup_probability == 0:
        return None
    struck = generator.random(ranks) < d.hiccup_probability
    return generator.random(ranks), np.where(struck, generator.exponential(d.hiccup_seconds, ranks), 0.0)


def _last_ready(start: Floats, backward: Floats, share: float, hiccup: tuple[Floats, Floats] | None) -> float:
    """When the last rank has filled the bucket that is full after `share` of backward."""
    reached = start + share * backward
    if hiccup is not None:
        moment, seconds = hiccup
        reached = reached + np.where(moment <= share, seconds, 0.0)
    return float(reached.max())


@dataclass(frozen=True)
class WhatIf:
    """One supposition and what it does to the mean step."""

    supposition: str
    step_seconds: float
    slowdown: float
    """Mean step over that of the first row."""


def what_if(
    workload: Workload, network: Network, jitter: float, ranks: int, nodes: int, steps: int = 100, seed: int = 0
) -> list[WhatIf]:
    """The same machine calm, and disturbed in the ways that are known to matter at scale."""
    usual = Disturbances(jitter=jitter)
    rows = {
        "ranks that never differ": Disturbances(jitter=0.0),
        f"jitter of {jitter:.1%} as fitted": usual,
        "and one node 10 % slower": replace(usual, slow_nodes=(nodes // 2,), slow_factor=1.1),
        "and one rank in 10,000 interrupted for 50 ms a step": replace(
            usual, hiccup_probability=1e-4, hiccup_seconds=0.05
        ),
        "and the cost of a bucket varying by 30 %": replace(usual, congestion=0.3),
        "and Horovod's negotiation before each bucket": replace(usual, negotiated=True),
    }
    means = {
        name: float(simulate(workload, network, ranks, nodes, steps, one, seed).step_seconds.mean())
        for name, one in rows.items()
    }
    first = next(iter(means.values()))
    return [WhatIf(name, mean, mean / first) for name, mean in means.items()]
