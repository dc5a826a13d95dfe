# SPDX-License-Identifier: Apache-2.0
"""The outcome of `hpc-dl bench`: a JSON file that bench writes and predict reads.

Bandwidths are those of nccl-tests (doc/PERFORMANCE.md there): algbw = S / t, busbw = algbw x factor, in 10^9 bytes per
second; S is the larger of what a rank gives and gets. busbw can be compared with a link's rate where the algorithm is a
ring.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from hpc_dl.errors import HpcDlError
from hpc_dl.predict.fit import Sample
from hpc_dl.predict.overlap import Buckets

KIND = "hpc-dl bench"
VERSION = 1
BUS_FACTORS: dict[str, Callable[[int], float]] = {
    "allreduce": lambda p: 2 * (p - 1) / p,
    "allgather": lambda p: (p - 1) / p,
    "reduce-scatter": lambda p: (p - 1) / p,
    "broadcast": lambda p: 1.0,
}


@dataclass(frozen=True)
class Outlier:
    """A rank whose own time stands out."""

    rank: int
    host: str
    ratio: float
    """Its median time over the median of all ranks'."""


@dataclass(frozen=True)
class Measurement:
    """One collective at one size."""

    collective: str
    size_bytes: int
    repeats: int
    seconds: float
    """Median over repeats of the slowest rank's time."""
    low_seconds: float
    """First quartile."""
    high_seconds: float
    """Third quartile."""
    fastest_seconds: float
    """The least over repeats: what the link does when nothing disturbs it."""
    outliers: tuple[Outlier, ...] = ()

    @property
    def algorithm_bandwidth(self) -> float:
        """algbw of nccl-tests, GB/s."""
        return self.size_bytes / 1e9 / self.seconds

    def bus_bandwidth(self, ranks: int) -> float:
        """busbw of nccl-tests, GB/s."""
        return self.algorithm_bandwidth * BUS_FACTORS[self.collective](ranks)


@dataclass(frozen=True)
class ModelBuckets:
    """The gradient of a model in the buckets of the exchange: when each is full, and how long its sum takes."""

    model: str
    local_batch: int
    forward_seconds: float
    backward_seconds: float
    """Of one rank by itself, nothing exchanged."""
    size_bytes: tuple[int, ...]
    """In order of sending."""
    ready: tuple[float, ...]
    """Fraction of backward after which each bucket is full."""
    seconds: tuple[float, ...]
    """Median time of the sum of each, one after another."""

    def as_sent(self) -> Buckets:
        """The buckets for the overlap model."""
        return Buckets(np.array(self.ready), np.array(self.size_bytes, dtype=float))


@dataclass(frozen=True)
class Benchmark:
    """Measured collectives between some ranks."""

    engine: str
    """horovod, torch, or mpi for MPI without an engine."""
    backend: str
    library: str
    """Key of `library.LIBRARIES`: whose algorithms these are."""
    ranks: int
    nodes: int
    hosts: tuple[str, ...]
    device: str
    created: str
    """ISO 8601, UTC."""
    measurements: tuple[Measurement, ...]
    versions: dict[str, str] = field(default_factory=dict)
    buckets: ModelBuckets | None = None

    def to_json(self, fit: dict[str, Any] | None = None) -> str:
        """The file's text; `fit` is for the reader's eyes, predict fits anew."""
        values = {"kind": KIND, "version": VERSION, **asdict(self)}
        for row, measurement in zip(values["measurements"], self.measurements, strict=True):
            row["algbw_gigabytes_per_second"] = measurement.algorithm_bandwidth
            row["busbw_gigabytes_per_second"] = measurement.bus_bandwidth(self.ranks)
        return json.dumps({**values, "fit": fit}, indent=1)


def read_benchmark(path: Path) -> Benchmark:
    """The benchmark of a JSON file."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise HpcDlError(f"benchmark {path}", str(error), "name a file that `hpc-dl bench --output` wrote") from None
    if not isinstance(values, dict) or values.get("kind") != KIND or values.get("version") != VERSION:
        raise HpcDlError(
            f"benchmark {path}", f"not a {KIND} file of version {VERSION}", "measure anew with `hpc-dl bench --output`"
        )
    try:
        return Benchmark(
            **{name: values[name] for name in ("engine", "backend", "library", "ranks", "nodes", "device", "created")},
            hosts=tuple(values["hosts"]),
            measurements=tuple(_measurement(row) for row in values["measurements"]),
            versions=values["versions"],
            buckets=_buckets(values["buckets"]),
        )
    except (KeyError, TypeError) as error:
        raise HpcDlError(f"benchmark {path}", f"incomplete: {error}", "measure anew with `hpc-dl bench`") from None


def _measurement(row: dict[str, Any]) -> Measurement:
    names = [entry.name for entry in fields(Measurement) if entry.name != "outliers"]
    outliers = tuple(Outlier(**outlier) for outlier in row["outliers"])
    return Measurement(**{name: row[name] for name in names}, outliers=outliers)


def _buckets(values: dict[str, Any] | None) -> ModelBuckets | None:
    if values is None:
        return None
    lists = {name: tuple(values[name]) for name in ("size_bytes", "ready", "seconds")}
    return ModelBuckets(**{**values, **lists})


def samples(benchmarks: Iterable[Benchmark], fastest: bool = False) -> list[Sample]:
    """All measurements as the fit wants them: medians, or the fastest repeats for a machine that others disturb."""
    return [
        Sample(
            measurement.collective,
            benchmark.ranks,
            float(measurement.size_bytes),
            measurement.fastest_seconds if fastest else measurement.seconds,
        )
        for benchmark in benchmarks
        for measurement in benchmark.measurements
    ]


def one_library(benchmarks: Sequence[Benchmark]) -> str:
    """The library all benchmarks share."""
    names = sorted({benchmark.library for benchmark in benchmarks})
    if len(names) != 1:
        raise HpcDlError(
            "a fit over several benchmarks", f"they measured {', '.join(names)}", "fit one library at a time"
        )
    return names[0]
