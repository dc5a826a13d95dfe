# SPDX-License-Identifier: Apache-2.0
"""One model for machines nobody measured for you: nine constants, fitted to published results of many systems.

A step lasts  compute x (1 + inside log2(g) + jitter m(p)) x (local batch ratio)^-kernel  +  exposed / micro-steps, with
exposed = max(visible T, T - backward) and T = time of the exchange at the shares of nominal rates that are usual, plus
latency. Constants are for all systems alike: none belongs to a row or to a system.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from benchmarks.published.cases import Case, Setting
from hpc_dl.predict.stragglers import normal_maximum

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Constant:
    """A constant of the model, with what is believed of it before any row is read."""

    name: str
    centre: float
    spread: float
    """Standard deviation of its logarithm: 0.7 is a factor of 2 either way."""
    meaning: str


CONSTANTS = (
    Constant("tcp", 0.4, 0.7, "share of the nominal network rate an allreduce reaches over TCP"),
    Constant("rdma", 0.6, 0.7, "the same over RDMA, Slingshot or InfiniBand"),
    Constant("node", 0.6, 0.7, "share of the bus bandwidth reached within a node"),
    Constant("visible", 0.45, 0.5, "share of the exchange that is exposed however long backward is"),
    Constant("inside", 0.02, 1.0, "compute slows by this share for each doubling of ranks in a node"),
    Constant("jitter", 0.01, 1.0, "standard deviation of a rank's step, as a share of it"),
    Constant("kernel", 0.1, 0.7, "rate of a rank falls as its local batch to this power"),
    Constant("overhead", 1e-3, 1.0, "seconds a step with more than one rank costs more"),
    Constant("latency", 10e-6, 1.0, "seconds per message of a tree, each bucket up and down"),
)
BUCKET_BYTES = 25e6
UNKNOWN_NETWORK = 12.5e9
"""Bytes per second of a node where a network exists but its rate is not known: one EDR port."""
BACKWARD_SHARE = 2 / 3
"""Backward takes about twice as long as forward."""
EFFICIENCY_ERROR = 0.05
"""Spread taken for one published efficiency: between 3 % of a careful figure and 10 % of a reported one."""
CENTRE = np.log([constant.centre for constant in CONSTANTS])
SPREAD = np.array([constant.spread for constant in CONSTANTS])


@dataclass(frozen=True)
class _Side:
    """One size of many cases, as columns."""

    per_node: Floats
    ranks: Floats
    ratio: Floats
    accumulation: Floats
    inside_seconds: Floats
    """Exchange within a node at the nominal rate."""
    network_seconds: Floats
    """Exchange between nodes at the nominal rate."""
    maximum: Floats
    """m(p), the expected largest of p standard normal values."""


@dataclass(frozen=True)
class Features:
    """Cases as columns, computed once."""

    base: _Side
    target: _Side
    step_seconds: Floats
    tcp: NDArray[np.bool_]
    unhidden: NDArray[np.bool_]
    """Parameter servers: nothing hides behind backward."""
    buckets: Floats

    @classmethod
    def of(cls, cases: Sequence[Case]) -> Features:
        return cls(
            base=_side(cases, [case.base for case in cases]),
            target=_side(cases, [case.target for case in cases]),
            step_seconds=np.array([case.step_seconds for case in cases]),
            tcp=np.array([case.hardware.tcp for case in cases], dtype=bool),
            unhidden=np.array([case.parameter_server for case in cases], dtype=bool),
            buckets=np.array([max(1.0, case.wire_bytes / BUCKET_BYTES) for case in cases]),
        )


def _side(cases: Sequence[Case], settings: Sequence[Setting]) -> _Side:
    ranks = np.array([setting.ranks for setting in settings], dtype=float)
    nodes = np.array([setting.nodes for setting in settings], dtype=float)
    per_node = np.minimum(ranks, [case.hardware.per_node for case in cases])
    size = np.array([case.wire_bytes for case in cases])
    servers = np.where([case.parameter_server for case in cases], per_node, 1.0)
    network = np.array([case.hardware.network_bytes_per_second or UNKNOWN_NETWORK for case in cases])
    inside = np.array([case.hardware.inside_bytes_per_second for case in cases])
    return _Side(
        per_node=per_node,
        ranks=ranks,
        ratio=np.array([setting.local_batch_ratio for setting in settings]),
        accumulation=np.array([setting.accumulation for setting in settings]),
        inside_seconds=2 * (per_node - 1) / per_node * size / inside,
        network_seconds=2 * (nodes - 1) / nodes * size / network * servers,
        maximum=np.array([normal_maximum(setting.ranks) for setting in settings]),
    )


def efficiency(logs: Floats, features: Features) -> Floats:
    """Efficiency of every case's target against its base.

    Args:
        logs: Natural logarithms of the constants, in the order of `CONSTANTS`.
        features: Columns of the cases.
    """
    values = dict(zip((constant.name for constant in CONSTANTS), np.exp(logs), strict=True))
    compute = _compute_alone(values, features)
    base, target = (_seconds(values, features, side, compute) for side in (features.base, features.target))
    return np.asarray(base / target)


def _seconds(values: dict[str, float], features: Features, side: _Side, compute: Floats) -> Floats:
    """Seconds per baseline micro-step's worth of samples on one rank."""
    factor, exchange, visible = _terms(values, features, side)
    micro = compute * side.ratio
    exposed = np.maximum(visible * exchange, exchange - BACKWARD_SHARE * micro) + values["overhead"] * (side.ranks > 1)
    return np.asarray(compute * factor + exposed / (side.accumulation * side.ratio))


def _compute_alone(values: dict[str, float], features: Features) -> Floats:
    """Compute of one rank by itself, from the published step at the baseline, which holds communication as well.

    The step is the larger of two straight lines in compute, so compute is the smaller of their two solutions.
    """
    side = features.base
    factor, exchange, visible = _terms(values, features, side)
    per_micro = 1 / (side.accumulation * side.ratio)
    rest = features.step_seconds - values["overhead"] * (side.ranks > 1) * per_micro
    hidden = (rest - visible * exchange * per_micro) / factor
    full = (rest - exchange * per_micro) / (factor - BACKWARD_SHARE / side.accumulation)
    return np.asarray(np.maximum(np.minimum(hidden, full), 0.02 * features.step_seconds))


def _terms(values: dict[str, float], features: Features, side: _Side) -> tuple[Floats, Floats, Floats]:
    """Factor on compute, seconds of the exchange, and its share that is always exposed."""
    factor = side.ratio ** -values["kernel"]
    factor = factor * (1 + values["inside"] * np.log2(side.per_node) + values["jitter"] * side.maximum)
    reached = np.where(features.tcp, values["tcp"], values["rdma"])
    exchange = side.inside_seconds / values["node"] + side.network_seconds / reached
    exchange = exchange + 2 * np.log2(side.ranks) * features.buckets * values["latency"]
    visible = np.where(features.unhidden, 1.0, min(values["visible"], 1.0))
    return factor, exchange, visible


@functools.lru_cache(maxsize=256)
def fit(cases: tuple[Case, ...]) -> tuple[float, ...]:
    """Logarithms of the constants that fit the cases best, every system counting as one.

    Residuals are efficiencies over `EFFICIENCY_ERROR`, beyond it they count linearly, so that one odd row cannot lead.
    """
    features = Features.of(cases)
    observed = np.array([case.efficiency for case in cases])
    weight = 1 / np.sqrt(share_of_system(cases)) / EFFICIENCY_ERROR

    def residuals(logs: Floats) -> Floats:
        return np.concatenate([weight * (efficiency(logs, features) - observed), (logs - CENTRE) / SPREAD])

    found = optimize.least_squares(residuals, CENTRE, loss="soft_l1", max_nfev=60)
    return tuple(float(value) for value in found.x)


def share_of_system(cases: Sequence[Case]) -> Floats:
    """For every case the number of cases of its system."""
    keys = [case.hardware.key for case in cases]
    return np.array([keys.count(key) for key in keys], dtype=float)
