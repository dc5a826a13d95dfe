# SPDX-License-Identifier: Apache-2.0
"""Which change helps most at a size: each one tried in the model, the best first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from hpc_dl.predict.network import Network
from hpc_dl.predict.overlap import Buckets
from hpc_dl.predict.posterior import Parameters
from hpc_dl.predict.step import Habits, Step, Workload, predict_step

Changed = tuple[Workload, Network, Habits]
Change = Callable[[Workload, Network, Habits], Changed]


@dataclass(frozen=True)
class Advice:
    """One change and what the model makes of it."""

    change: str
    step: Step
    gain: float
    """Time per sample before over after: 1.2 is 20 % more samples per second."""
    caveat: str


def _compress(workload: Workload, network: Network, habits: Habits) -> Changed:
    return replace(workload, buckets=workload.buckets.compressed(0.5)), network, habits


def _buckets(factor: float) -> Change:
    def change(workload: Workload, network: Network, habits: Habits) -> Changed:
        return replace(workload, buckets=rebucket(workload.buckets, factor)), network, habits

    return change


def _double_batch(workload: Workload, network: Network, habits: Habits) -> Changed:
    return workload.scaled(2 * workload.local_batch), network, habits


def _double_bandwidth(workload: Workload, network: Network, habits: Habits) -> Changed:
    return workload, network.scaled(1.0, 0.5), habits


def _accumulate(workload: Workload, network: Network, habits: Habits) -> Changed:
    twice = workload.scaled(2 * workload.local_batch)
    return replace(twice, accumulation=2 * workload.accumulation), network, habits


CHANGES: dict[str, tuple[Change, str]] = {
    "half the bytes on the wire (exchange.compression fp16 or bf16)": (_compress, "check that the loss stays the same"),
    "buckets twice as large (exchange.bucket_megabytes)": (_buckets(2.0), ""),
    "buckets half as large (exchange.bucket_megabytes)": (_buckets(0.5), ""),
    "twice the local batch (training.local_batch)": (
        _double_batch,
        "doubles the global batch: more epochs may be needed, and memory",
    ),
    "twice the micro-steps (training.accumulation)": (
        _accumulate,
        "doubles the global batch: more epochs may be needed",
    ),
    "twice the network bandwidth of a node (NICs)": (_double_bandwidth, "more NICs or ranks on all NICs, if there are"),
}
"""Each change with what it costs elsewhere."""


def advise(workload: Workload, parameters: Parameters, ranks: int, nodes: int) -> list[Advice]:
    """Every change at this size, the most helpful first."""
    before = predict_step(workload, parameters.network, parameters.habits, ranks, nodes)
    advices = []
    for name, (change, caveat) in CHANGES.items():
        step = predict_step(*change(workload, parameters.network, parameters.habits), ranks, nodes)
        advices.append(Advice(name, step, before.cost / step.cost, caveat))
    return sorted(advices, key=lambda advice: -advice.gain)


def rebucket(buckets: Buckets, factor: float) -> Buckets:
    """The same gradient in buckets `factor` times as large; bytes within a bucket count as arriving evenly."""
    arrived = np.concatenate(([0.0], np.cumsum(buckets.size_bytes)))
    clock = np.concatenate(([0.0], buckets.ready))
    count = max(1, round(len(buckets.size_bytes) / factor))
    edges = np.linspace(0.0, arrived[-1], count + 1)[1:]
    return Buckets(np.interp(edges, arrived, clock), np.diff(edges, prepend=0.0))
