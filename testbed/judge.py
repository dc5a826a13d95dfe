# SPDX-License-Identifier: Apache-2.0
"""Predictions against a sweep: 8 hosts from runs on 1 to 4, and another link rate from runs at the first.

`python -m testbed.judge FOLDER` prints Markdown: every prediction, and the medians.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hpc_dl.errors import HpcDlError
from hpc_dl.predict import benchmark, posterior
from hpc_dl.predict.fit import fit
from hpc_dl.predict.forecast import Question, forecast
from hpc_dl.predict.observed import Observed, read_runs
from hpc_dl.predict.overlap import exposed_seconds
from testbed.network import bits_per_second

KNOWN_HOSTS = (1, 2, 4)


@dataclass(frozen=True)
class Verdict:
    """One prediction and what was measured."""

    question: str
    engine: str
    shape: str
    rate: str
    hosts: int
    measured_seconds: float
    predicted_seconds: float
    low: float
    high: float

    @property
    def error(self) -> float:
        return self.predicted_seconds / self.measured_seconds - 1

    @property
    def held(self) -> bool:
        return self.low <= self.measured_seconds <= self.high


def judge(folder: Path) -> Iterator[Verdict]:
    """All predictions that a sweep can answer."""
    rates = sorted((path.name for path in folder.iterdir() if path.is_dir()), key=bits_per_second)
    for rate in rates:
        for engine in sorted(path for path in (folder / rate).iterdir() if path.is_dir()):
            for runs in sorted(path for path in engine.iterdir() if path.is_dir()):
                yield from _next_size(runs, rate)
                for other in (one for one in rates if one != rate):
                    yield from _other_rate(runs, rate, folder / other / engine.name / runs.name, other)


def _next_size(runs: Path, rate: str) -> Iterator[Verdict]:
    """The largest size from the smaller ones and the benchmark."""
    largest = max(int(path.name) for path in runs.iterdir())
    if largest > max(KNOWN_HOSTS):
        yield from _verdicts("next size", _question(runs, [largest]), runs, rate)


def _other_rate(runs: Path, rate: str, elsewhere: Path, other: str) -> Iterator[Verdict]:
    """All sizes at another link rate, from runs and benchmark at this one."""
    sizes = sorted(int(path.name) for path in elsewhere.iterdir() if int(path.name) > 1) if elsewhere.is_dir() else []
    if sizes:
        question = _question(runs, sizes, bits_per_second(other) / bits_per_second(rate))
        yield from _verdicts(f"from {rate}", question, elsewhere, other)


def _question(runs: Path, hosts: list[int], factor: float = 1.0) -> Question:
    study = read_runs([runs / str(known) for known in KNOWN_HOSTS])
    files = [benchmark.read_benchmark(path) for path in sorted(runs.parent.glob("bench-*.json"))]
    profile = benchmark.read_benchmark(runs.parent / f"profile-{runs.name}.json").buckets
    prior = posterior.from_benchmark(
        fit(benchmark.samples(files), benchmark.one_library(files)), max(one.ranks for one in files)
    )
    return Question(hosts, 1, prior, study, None, profile.as_sent() if profile else None, factor)


def _verdicts(name: str, question: Question, measured: Path, rate: str) -> Iterator[Verdict]:
    for point in forecast(question).points:
        (truth,) = read_runs([measured / str(point.step.ranks)]).sizes
        yield Verdict(
            question=name,
            engine=measured.parent.name,
            shape=measured.name,
            rate=rate,
            hosts=point.step.ranks,
            measured_seconds=truth.step_seconds,
            predicted_seconds=point.seconds.value,
            low=point.seconds.low,
            high=point.seconds.high,
        )


def exposed(folder: Path) -> Iterator[tuple[str, str, str, int, float, float]]:
    """Rate, engine, shape, hosts; exposed exchange as the split measured it; as the link's rate alone says.

    The link's rate: each bucket takes 2(p-1)/p n / rate, no latency, in the pipeline of the profile.
    """
    for profile in sorted(folder.glob("*/*/profile-*.json")):
        buckets = benchmark.read_benchmark(profile).buckets
        shape = profile.stem.removeprefix("profile-")
        rate, engine = profile.parts[-3], profile.parts[-2]
        paths = [path for path in (profile.parent / shape).iterdir() if int(path.name) > 1]
        for size in read_runs(paths).sizes if buckets and paths else ():
            sent = buckets.as_sent() if buckets else None
            assert sent is not None
            per_byte = 2 * (size.ranks - 1) / size.ranks * 8 / bits_per_second(rate)
            by_rate = exposed_seconds(_backward(size), sent, sent.size_bytes * per_byte)
            yield rate, engine, shape, size.ranks, size.means()["exchange"], by_rate


def _backward(size: Observed) -> float:
    return size.means()["backward"]


def main(words: Sequence[str]) -> int:
    """Print all verdicts and their summary."""
    parser = argparse.ArgumentParser("python -m testbed.judge", description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args(words).folder
    print("| Question | Engine | Shape | Link | Hosts | Measured, ms | Predicted, ms | 90 % interval | Error |")
    print("|---|---|---|---|---|---|---|---|---|")
    verdicts = list(judge(folder))
    for v in verdicts:
        numbers = f"{v.measured_seconds * 1e3:.0f} | {v.predicted_seconds * 1e3:.0f}"
        interval = f"{v.low * 1e3:.0f} to {v.high * 1e3:.0f}"
        where = f"{v.question} | {v.engine} | {v.shape} | {v.rate} | {v.hosts}"
        print(f"| {where} | {numbers} | {interval}{'' if v.held else ' (missed)'} | {v.error:+.1%} |")
    for name in dict.fromkeys("next size" if v.question == "next size" else "another rate" for v in verdicts):
        some = [v for v in verdicts if (v.question == "next size") == (name == "next size")]
        errors = np.abs([v.error for v in some])
        held = sum(v.held for v in some)
        print(
            f"\n{name}: {len(some)} predictions, median error {np.median(errors):.1%}, "
            f"largest {errors.max():.1%}; {held} of {len(some)} inside their 90 % interval"
        )
    print("\n| Link | Engine | Shape | Hosts | Exposed as measured, ms | By the link's rate, ms |")
    print("|---|---|---|---|---|---|")
    for rate, engine, shape, hosts, measured, by_rate in exposed(folder):
        print(f"| {rate} | {engine} | {shape} | {hosts} | {measured * 1e3:.0f} | {by_rate * 1e3:.0f} |")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except HpcDlError as error:
        print(f"testbed: {error}", file=sys.stderr)
        sys.exit(2)
