# SPDX-License-Identifier: Apache-2.0
"""Beliefs about a network and habits of its ranks, corrected by runs: the parameters of a prediction.

Four factors are fitted to the exchange that runs measured: on latency, on time per byte, the share that is always
visible, the jitter. Each draw of the bootstrap takes windows anew and perturbs what was believed, then fits again
(randomised maximum a posteriori: Bardsley et al. 2014); so where runs say nothing, the belief's spread remains.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from hpc_dl.predict.collectives import Link
from hpc_dl.predict.fit import Fit
from hpc_dl.predict.network import LinkedNetwork, MeasuredNetwork, Network
from hpc_dl.predict.step import Habits, Workload, exchange_seconds, straggler_seconds

Floats = NDArray[np.float64]
BENCHMARK_SPREAD = 0.15
"""Training meets other conditions than a benchmark does: standard deviation of the logarithm, our choice."""
IGNORANT = LinkedNetwork("gloo", Link.of(30e-6, 1e9), Link.of(30e-6, 1e9))
"""A ring over links of 1 GB/s, believed to within a factor of 5."""
IGNORANT_SPREAD = 1.6
VISIBLE = (0.4, 0.7)
"""Share of the exchange exposed however long backward is, centre and spread: published results (population.py)."""
JITTER = (0.01, 1.0)
"""Likewise."""
FLOOR = 0.01
"""Of the local step: exchange below it is compared by difference, above it by ratio."""
MEASUREMENT_ERROR = 0.05


@dataclass(frozen=True)
class Prior:
    """What is believed of a network before a run is looked at."""

    network: Network
    spread: float
    """Standard deviation of the logarithm of its latency and of its time per byte."""
    source: str
    most_nodes: int = 0
    """Nodes of the machine, 0 where that is not known."""
    most_ranks: int = 0
    """Ranks of the largest benchmark, 0 where there was none."""
    sure: bool = True
    """False where nothing is known."""
    negotiated: bool = False
    """Ranks talk through Horovod, and the network's costs do not hold its negotiation (a benchmark's do)."""


@dataclass(frozen=True)
class Measured:
    """The exchange of runs at one size."""

    ranks: int
    nodes: int
    workload: Workload
    """With the local times of this size."""
    exchange_seconds: float


@dataclass(frozen=True)
class Parameters:
    """One draw."""

    network: Network
    habits: Habits


def from_benchmark(fit: Fit, most_ranks: int) -> Prior:
    """The network as `hpc-dl bench` measured it."""
    source = f"benchmark on up to {most_ranks} ranks ({fit.library}, scatter {fit.scatter:.0%})"
    return Prior(MeasuredNetwork(fit), BENCHMARK_SPREAD, source, most_ranks=most_ranks)


def nothing_known() -> Prior:
    """No benchmark and no machine: runs have to say it all."""
    return Prior(IGNORANT, IGNORANT_SPREAD, "runs alone", sure=False)


def best(prior: Prior, measured: Sequence[Measured]) -> Parameters:
    """The parameters that go best with belief and runs."""
    return _solve(prior, prior.network, np.zeros(4), measured)


def draw(prior: Prior, measured: Sequence[Measured], generator: np.random.Generator) -> Parameters:
    """One draw of the bootstrap; `measured` holds means of windows drawn anew."""
    network = prior.network
    if isinstance(network, MeasuredNetwork):
        network = MeasuredNetwork(network.fit.draw(generator))
    return _solve(prior, network, generator.normal(size=4) * _spreads(prior), measured)


def _spreads(prior: Prior) -> Floats:
    return np.array([prior.spread, prior.spread, VISIBLE[1], JITTER[1]])


def _solve(prior: Prior, network: Network, centre: Floats, measured: Sequence[Measured]) -> Parameters:
    """The parameters nearest to `centre` (logarithms of the four factors) and to the measured exchange."""

    def parameters(logs: Floats) -> Parameters:
        latency, per_byte, visible, jitter = (float(value) for value in np.exp(logs))
        habits = Habits(JITTER[0] * jitter, min(1.0, VISIBLE[0] * visible), prior.negotiated)
        return Parameters(network.scaled(latency, per_byte), habits)

    def residuals(logs: Floats) -> Floats:
        misses = [_miss(one, parameters(logs)) / MEASUREMENT_ERROR for one in measured]
        return np.concatenate([misses, (logs - centre) / _spreads(prior)])

    if not measured:
        return parameters(centre)
    return parameters(optimize.least_squares(residuals, centre, max_nfev=30, diff_step=1e-3).x)


def _miss(one: Measured, found: Parameters) -> float:
    """Logarithm of predicted over measured exchange."""
    floor = FLOOR * one.workload.local_seconds
    expected = exchange_seconds(one.workload, found.network, found.habits, one.ranks, one.nodes)
    expected += straggler_seconds(one.workload, found.habits, one.ranks)
    return math.log((expected + floor) / (one.exchange_seconds + floor))
