# SPDX-License-Identifier: Apache-2.0
"""How often the 95 % intervals of efficiency hold: run sets of known efficiency, made by the thousand.

    python -m tests.scaling.coverage [--sets 1000] [--hard] [--alarms PAIRS] [--seed 0]

prints one line per kind of noise and design, with the same figure for other ways to make an interval, in Markdown.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from hpc_dl.runlog.records import Run
from hpc_dl.scaling.compare import compare
from hpc_dl.scaling.efficiency import points, sizes
from hpc_dl.scaling.runs import Collection
from hpc_dl.scaling.statistics import Estimate, Mean, quotient
from tests.scaling import synthetic

Array = NDArray[np.float64]
Noise = Callable[[np.random.Generator, int], Array]
RANKS = (1, 2, 4, 8, 16)
RESAMPLES = 500


def normal(random: np.random.Generator, count: int) -> Array:
    return random.standard_normal(count)


def skewed(random: np.random.Generator, count: int) -> Array:
    """Exponential: a sharp lower end and a long tail of slow windows; skewness 2."""
    return random.standard_exponential(count) - 1


def bimodal(random: np.random.Generator, count: int, within: float = 0.3) -> Array:
    """Two clusters, three in ten values in the slower one; `within` is the standard deviation inside a cluster.

    With the noise of a job at 5 % the clusters lie 10 % apart, seven times the deviation inside one: as distinct as
    the published clusters of runs 25 to 30 % apart.
    """
    share = 0.3
    apart = math.sqrt((1 - within**2) / (share * (1 - share)))
    return apart * ((random.random(count) < share) - share) + within * random.standard_normal(count)


def autocorrelated(random: np.random.Generator, count: int, correlation: float = 0.6) -> Array:
    """A first-order autoregression, in its steady state from the start."""
    values = random.standard_normal(count)
    for index in range(1, count):
        values[index] = correlation * values[index - 1] + math.sqrt(1 - correlation**2) * values[index]
    return values


@dataclass(frozen=True)
class Design:
    """How a made-up study was measured."""

    repeats: int
    windows: int
    window_noise: float = 0.05
    """Relative standard deviation of a window's seconds within a job."""
    job_noise: float = 0.0
    """Relative standard deviation of a job's mean from job to job."""
    large_factor: float = 1.0
    """Noise of all sizes but the smallest, over the smallest's."""


@dataclass(frozen=True)
class Kind:
    """A kind of noise, for the windows of a job and from job to job."""

    windows: Noise
    jobs: Noise


KINDS = {
    "normal": Kind(normal, normal),
    "skewed": Kind(skewed, skewed),
    "autocorrelated": Kind(autocorrelated, normal),
    "bimodal": Kind(bimodal, bimodal),
}
DESIGNS = {
    "one run of 40 windows": Design(1, 40),
    "5 repeats of 20 windows": Design(5, 20, job_noise=0.05),
}
HARD_KINDS = {
    **KINDS,
    "strongly autocorrelated": Kind(partial(autocorrelated, correlation=0.8), normal),
    "sharply bimodal": Kind(partial(bimodal, within=0.1), partial(bimodal, within=0.1)),
}
HARD_DESIGNS = {
    "one run of 10 windows": Design(1, 10),
    "one run of 100 windows": Design(1, 100),
    "2 repeats": Design(2, 20, job_noise=0.05),
    "3 repeats": Design(3, 20, job_noise=0.05),
    "5 repeats": DESIGNS["5 repeats of 20 windows"],
    "10 repeats": Design(10, 20, job_noise=0.05),
    "5 repeats, large sizes 3 times as noisy": Design(5, 20, job_noise=0.05, large_factor=3.0),
}


def efficiency_of(ranks: int) -> float:
    """The truth."""
    return 1 / (1 + 0.06 * math.log2(ranks))


def run_set(random: np.random.Generator, kind: Kind, design: Design) -> list[Run]:
    """A study with a known efficiency: mean seconds of a window are exactly 1 / efficiency."""
    runs = []
    for ranks in RANKS:
        factor = 1.0 if ranks == RANKS[0] else design.large_factor
        jobs = 1 + factor * design.job_noise * kind.jobs(random, design.repeats)
        for number, job in enumerate(jobs):
            noise = 1 + factor * design.window_noise * kind.windows(random, design.windows)
            head = synthetic.header(ranks, run_id=f"{ranks}-{number}")
            runs.append(synthetic.run(head, job * noise / efficiency_of(ranks), split={}))
    return runs


@dataclass
class Count:
    """Intervals that held, and their half widths."""

    held: list[bool] = field(default_factory=list)
    widths: list[float] = field(default_factory=list)

    def add(self, estimate: Estimate, truth: float) -> None:
        self.held.append(estimate.low <= truth <= estimate.high)
        self.widths.append((estimate.high - estimate.low) / 2)

    @property
    def percent(self) -> float:
        """How many of 100 intervals held."""
        return 100 * float(np.mean(self.held))


def measure(kind: Kind, design: Design, sets: int, seed: int, rivals: bool = True) -> dict[str, Count]:
    """Coverage of the project's interval and of others, over `sets` studies of four efficiencies each."""
    random = np.random.default_rng(seed)
    counts: dict[str, Count] = {"hpc_dl": Count()}
    for _ in range(sets):
        study = sizes(run_set(random, kind, design))
        for point in points(study, study[0])[1:]:
            counts["hpc_dl"].add(point.efficiency, efficiency_of(point.size.world_size))
        if rivals:
            ranks = int(random.choice(RANKS[1:]))
            series = [[_times(run.run) for run in size.runs] for size in study if size.world_size in (1, ranks)]
            for name, interval in _rivals(random, series[0], series[1]).items():
                counts.setdefault(name, Count()).add(interval, efficiency_of(ranks))
    return counts


def _times(run: Run) -> Array:
    return np.array([window.seconds.max for window in run.steady])


def _rivals(random: np.random.Generator, base: Sequence[Array], size: Sequence[Array]) -> dict[str, Estimate]:
    """Other ways to an interval of the quotient of the mean times of `base` and `size`, each a series per repeat."""
    bottom, top = np.concatenate(base), np.concatenate(size)
    found = {
        "t, windows taken as independent": quotient(_independent(bottom), _independent(top)),
        "±1.96 standard deviations": _deviations(bottom, top),
    }
    if len(base) == 1:
        found["bootstrap"] = _percentiles(random, bottom, top)
        found["block bootstrap"] = _percentiles(random, bottom, top, block=round(len(bottom) ** (1 / 3)))
    else:
        means = [np.array([series.mean() for series in repeats]) for repeats in (base, size)]
        found["bootstrap of repeats"] = _percentiles(random, means[0], means[1])
    return found


def _independent(values: Array) -> Mean:
    return Mean(float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values)), len(values) - 1)


def _deviations(base: Array, size: Array) -> Estimate:
    """What Horovod's synthetic benchmark prints as a bound of the mean, here on the quotient."""
    value = float(base.mean() / size.mean())
    reach = 1.96 * value * math.hypot(base.std() / base.mean(), size.std() / size.mean())
    return Estimate(value, value - reach, value + reach)


def _percentiles(random: np.random.Generator, base: Array, size: Array, block: int = 1) -> Estimate:
    means = [_resampled_means(random, values, block) for values in (base, size)]
    low, high = np.quantile(means[0] / means[1], [0.025, 0.975])
    return Estimate(float(base.mean() / size.mean()), float(low), float(high))


def _resampled_means(random: np.random.Generator, values: Array, block: int) -> Array:
    """Means of moving blocks of the series, drawn with replacement."""
    starts = random.integers(0, len(values) - block + 1, (RESAMPLES, -(-len(values) // block)))
    chosen = (starts[:, :, None] + np.arange(block)).reshape(RESAMPLES, -1)[:, : len(values)]
    return values[chosen].mean(axis=1)


def table(kinds: dict[str, Kind], designs: dict[str, Design], sets: int, seed: int) -> str:
    """Coverage in per cent, one line per kind and design."""
    lines = ["| Noise | Design | 95 % interval holds | median half width | others |", "|---|---|---:|---:|---|"]
    total: list[bool] = []
    for design_name, design in designs.items():
        for kind_name, kind in kinds.items():
            counts = measure(kind, design, sets, seed)
            ours = counts.pop("hpc_dl")
            total += ours.held
            others = ", ".join(f"{name} {count.percent:.0f} %" for name, count in counts.items())
            width = 100 * float(np.median(ours.widths))
            lines.append(f"| {kind_name} | {design_name} | {ours.percent:.1f} % | ±{width:.1f} % | {others} |")
    return "\n".join([*lines, f"| all | all | {100 * np.mean(total):.1f} % | | |"])


def false_alarms(pairs: int, seed: int) -> int:
    """How many of so many comparisons of two sides with the same truth, five jobs each, call them different."""
    random = np.random.default_rng(seed)
    return sum(compare(_side(random), _side(random)).pairs[0].verdict != "not shown" for _ in range(pairs))


def _side(random: np.random.Generator) -> Collection:
    jobs = 0.5 * (1 + 0.03 * normal(random, 5))
    heads = [synthetic.header(4, run_id=f"r{number}") for number in range(len(jobs))]
    noise = [1 + 0.03 * normal(random, 12) for _ in jobs]
    runs = (synthetic.run(h, job * n, split={}) for h, job, n in zip(heads, jobs, noise, strict=True))
    return Collection(tuple(runs), (), ())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--sets", type=int, default=1000, help="studies per kind of noise and design")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--hard", action="store_true", help="the designs where any interval has a hard time")
    parser.add_argument("--alarms", type=int, metavar="PAIRS", help="count false alarms of `--compare` instead")
    options = parser.parse_args()
    if options.alarms:
        print(f"{false_alarms(options.alarms, options.seed)} false alarms in {options.alarms} comparisons")
        return
    kinds, designs = (HARD_KINDS, HARD_DESIGNS) if options.hard else (KINDS, DESIGNS)
    print(table(kinds, designs, options.sets, options.seed))


if __name__ == "__main__":
    main()
