# SPDX-License-Identifier: Apache-2.0
"""Step time and efficiency at sizes not yet measured, from runs, a benchmark, a machine record, or figures given.

The public entry: `forecast`. It refuses a question its inputs cannot carry.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from hpc_dl.errors import HpcDlError
from hpc_dl.predict import posterior
from hpc_dl.predict.observed import Study, buckets_of, workload
from hpc_dl.predict.overlap import Buckets
from hpc_dl.predict.posterior import Measured, Parameters, Prior
from hpc_dl.predict.step import Step, Workload, predict_step

LEVEL = 0.9
DRAWS = 200
FEWEST_SIZES = 3
LARGEST_FACTOR = 8
"""Of extrapolation beyond the largest size measured, where no machine record says what the network is."""
FORM_PER_DOUBLING = 0.2
"""Standard deviation of the logarithm of true over predicted loss for each doubling of ranks beyond what was measured:
the interquartile range over 42 published series, see docs/predict.md."""
FORM_PER_BANDWIDTH_DOUBLING = 0.4
"""Likewise for each doubling or halving of bandwidth: between gloo (0.15) and Horovod (0.55) on the test bed, at half
and at twice the rate of the runs (median absolute error / 0.67). Chosen on the sweep of docs/bench.md."""


@dataclass(frozen=True)
class Interval:
    """A value and the ends of its 90 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Point:
    """One predicted size."""

    step: Step
    seconds: Interval
    efficiency: Interval
    """Against the baseline of the forecast."""


@dataclass(frozen=True)
class Forecast:
    """Predicted sizes and what they rest on."""

    points: tuple[Point, ...]
    baseline_ranks: int
    basis: str
    """What the network is taken from."""
    workloads: tuple[Workload, ...]
    """One rank's step at each point."""
    parameters: Parameters
    """The best ones, for questions about changes."""


@dataclass(frozen=True)
class Question:
    """What is to be predicted, and from what."""

    ranks: Sequence[int]
    ranks_per_node: int
    prior: Prior
    study: Study | None = None
    """Runs of the user."""
    given: Workload | None = None
    """One rank's step, where there are no runs."""
    buckets: Buckets | None = None
    """As a benchmark profiled them; from the runs' headers by default."""
    bandwidth_factor: float = 1.0
    """The predicted network's bandwidth over that of the runs and the benchmark: 2 for twice the NICs."""


def forecast(question: Question, draws: int = DRAWS, seed: int = 0) -> Forecast:
    """Predict every size of the question, with intervals by bootstrap."""
    _refuse(question)
    best = _Draw(question, None)
    generator = np.random.default_rng(seed)
    others = [_Draw(question, generator) for _ in range(draws)]
    points = tuple(_point(best, others, ranks, _nodes(question, ranks)) for ranks in question.ranks)
    reference = question.study.sizes[0].ranks if question.study else 1
    workloads = tuple(best.workload(ranks) for ranks in question.ranks)
    return Forecast(points, reference, question.prior.source, workloads, best.parameters)


class _Draw:
    """Workload and parameters, once as they fit best (no generator), then as the bootstrap draws them."""

    def __init__(self, question: Question, generator: np.random.Generator | None) -> None:
        self._question, study = question, question.study
        self._sizes: list[tuple[int, int, Workload, float]] = []
        if study is not None:
            buckets = question.buckets or buckets_of(study.header)
            for size in study.sizes:
                means = size.means(generator)
                self._sizes.append((size.ranks, size.nodes, workload(size, means, buckets), means["exchange"]))
        measured = [Measured(*row) for row in self._sizes if row[0] > 1]
        prior = question.prior
        self.parameters = (
            posterior.best(prior, measured) if generator is None else posterior.draw(prior, measured, generator)
        )
        self._forms = (0.0, 0.0) if generator is None else tuple(generator.normal(size=2))
        self._most = max([row[0] for row in self._sizes] + [prior.most_ranks, 1])

    def workload(self, ranks: int) -> Workload:
        """One rank's step among so many."""
        if not self._sizes:
            assert self._question.given is not None
            return self._question.given
        study = self._question.study
        assert study is not None
        if study.scaling == "strong":
            return _at_batch([row[2] for row in self._sizes], study.header.global_batch / ranks)
        return _at_ranks([(row[0], row[2]) for row in self._sizes], ranks)

    def step(self, ranks: int, nodes: int) -> Step:
        """The step at a size, its loss multiplied by this draw's errors of form."""
        network = self.parameters.network.scaled(1.0, 1 / self._question.bandwidth_factor)
        found = predict_step(self.workload(ranks), network, self.parameters.habits, ranks, nodes)
        of_ranks = FORM_PER_DOUBLING * math.sqrt(max(0.0, math.log2(ranks / self._most)))
        of_bandwidth = FORM_PER_BANDWIDTH_DOUBLING * math.sqrt(abs(math.log2(self._question.bandwidth_factor)))
        factor = math.exp(self._forms[0] * of_ranks + self._forms[1] * of_bandwidth)
        return replace(
            found,
            exposed_seconds=found.exposed_seconds * factor,
            straggler_seconds=found.straggler_seconds * factor,
        )

    @property
    def baseline_cost(self) -> float:
        """Rank-seconds per sample at the smallest size: as measured, or of one rank alone."""
        if self._sizes:
            _, _, one, exchange = self._sizes[0]
            return (one.local_seconds + exchange) / one.local_batch
        alone = self.workload(1)
        return alone.local_seconds / alone.local_batch


def _at_ranks(sizes: Sequence[tuple[int, Workload]], ranks: int) -> Workload:
    """Weak scaling: local time of the largest measured size, or along its trend where it grows with the ranks.

    Ranks of a node share memory and power, and communication takes cycles: local time may grow by a share per doubling.
    """
    shared = [(p, w) for p, w in sizes if p > 1] or list(sizes)
    largest, last = shared[-1]
    if len(shared) < 3 or ranks <= largest:
        return last
    doublings = np.log2([p for p, _ in shared])
    seconds = np.array([w.local_seconds for _, w in shared])
    slope = max(0.0, float(np.polyfit(doublings, seconds, 1)[0]))
    return _stretched(last, 1 + slope * math.log2(ranks / largest) / last.local_seconds)


def _at_batch(sizes: Sequence[Workload], local_batch: float) -> Workload:
    """Strong scaling: local time = fixed + per sample, neither below zero, fitted over the measured sizes."""
    columns = np.array([[1.0, w.local_batch] for w in sizes])
    seconds = np.array([w.local_seconds for w in sizes])
    (fixed, per_sample), _ = optimize.nnls(columns / seconds[:, None], np.ones(len(sizes)))
    nearest = min(sizes, key=lambda w: abs(math.log(w.local_batch / local_batch)))
    wanted = fixed + per_sample * local_batch
    known = fixed + per_sample * nearest.local_batch
    return replace(_stretched(nearest, wanted / known), local_batch=local_batch)


def _stretched(one: Workload, factor: float) -> Workload:
    names = ("input_seconds", "forward_seconds", "backward_seconds", "optimizer_seconds", "other_seconds")
    return replace(one, **{name: getattr(one, name) * factor for name in names})


def _point(best: _Draw, others: Sequence[_Draw], ranks: int, nodes: int) -> Point:
    step = best.step(ranks, nodes)
    steps = [other.step(ranks, nodes) for other in others]
    seconds = _interval(step.seconds, np.array([one.seconds for one in steps]))
    costs = np.array([other.baseline_cost / one.cost for other, one in zip(others, steps, strict=True)])
    return Point(step, seconds, _interval(best.baseline_cost / step.cost, costs))


def _interval(value: float, draws: NDArray[np.float64]) -> Interval:
    if not len(draws):
        return Interval(value, math.nan, math.nan)
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value, min(float(low), value), max(float(high), value))


def _nodes(question: Question, ranks: int) -> int:
    return math.ceil(ranks / question.ranks_per_node)


def _refuse(question: Question) -> None:
    """Say which question the inputs cannot carry, and what would."""
    study, prior = question.study, question.prior
    asked = f"a prediction for {', '.join(str(ranks) for ranks in question.ranks)} ranks"
    if study is None and question.given is None:
        raise HpcDlError(asked, "nothing says how long a rank computes", "name runs, or give the times of a step")
    if study is None and not prior.sure:
        raise HpcDlError(asked, "nothing says what the network does", "name runs, a benchmark or a machine")
    sizes = [size.ranks for size in study.sizes] if study else []
    if not prior.sure and len(sizes) < FEWEST_SIZES:
        raise HpcDlError(
            asked,
            f"runs of {len(sizes)} sizes ({', '.join(map(str, sizes))} ranks) and nothing else on the network",
            f"measure at least {FEWEST_SIZES} sizes, or add a benchmark (`hpc-dl bench`) or --machine",
        )
    largest = max([*sizes, prior.most_ranks, 1])
    far = [ranks for ranks in question.ranks if ranks > LARGEST_FACTOR * largest]
    if far and not prior.most_nodes:
        raise HpcDlError(
            asked,
            f"{far[-1]} ranks are more than {LARGEST_FACTOR} times the largest size measured ({largest})",
            "measure a larger size, or name the machine (--machine)",
        )
    beyond = [ranks for ranks in question.ranks if 0 < prior.most_nodes < _nodes(question, ranks)]
    if beyond:
        raise HpcDlError(asked, f"the machine has {prior.most_nodes} nodes", f"ask for fewer than {beyond[0]} ranks")
