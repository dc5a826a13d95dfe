# SPDX-License-Identifier: Apache-2.0
"""What the user's runs say about a step: windows as rows of seconds, ready to be drawn from by bootstrap."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hpc_dl.errors import HpcDlError
from hpc_dl.predict.overlap import Buckets, uniform_buckets
from hpc_dl.predict.step import Workload
from hpc_dl.runlog.records import Header, Run, Window
from hpc_dl.scaling.comparable import Scaling, decide_scaling
from hpc_dl.scaling.runs import collect, label
from hpc_dl.scaling.steady import measure

LOCAL_PHASES = ("input", "forward", "backward", "optimizer", "other")
COLUMNS = (*LOCAL_PHASES, "exchange", "spread")
DEFAULT_BUCKET_MEGABYTES = 25.0
COMPRESSION = {"fp16": 0.5, "bf16": 0.5}


@dataclass(frozen=True)
class Observed:
    """All runs at one number of ranks."""

    ranks: int
    nodes: int
    header: Header
    windows: NDArray[np.float64]
    """windows x `COLUMNS`: mean over ranks of each phase's seconds per step; spread is slowest minus fastest rank in
    what they do alone (forward and backward)."""

    def means(self, generator: np.random.Generator | None = None) -> dict[str, float]:
        """Mean of each column; with a generator that of a draw of blocks of windows (moving-block bootstrap)."""
        rows = self.windows if generator is None else self.windows[_blocks(len(self.windows), generator)]
        return dict(zip(COLUMNS, (float(value) for value in rows.mean(axis=0)), strict=True))

    @property
    def step_seconds(self) -> float:
        """Mean time of a step."""
        return float(self.windows[:, : len(COLUMNS) - 1].sum(axis=1).mean())


def _blocks(count: int, generator: np.random.Generator) -> NDArray[np.int_]:
    """Indices in blocks of about the cube root of the number: neighbours stay together (Hall et al. 1995)."""
    length = max(1, round(count ** (1 / 3)))
    starts = generator.integers(0, count - length + 1, size=math.ceil(count / length))
    numbers: NDArray[np.int_] = (starts[:, None] + np.arange(length)).ravel()[:count]
    return numbers


@dataclass(frozen=True)
class Study:
    """The user's runs, smallest size first."""

    sizes: tuple[Observed, ...]
    scaling: Scaling

    @property
    def header(self) -> Header:
        """Of the first run that exchanges anything, or of the first."""
        return next((size.header for size in self.sizes if size.ranks > 1), self.sizes[0].header)


def read_runs(paths: Sequence[Path]) -> Study:
    """The steady windows of runs; refuses runs that cannot be compared, as report does."""
    return observe(collect(paths).runs)


def observe(runs: Sequence[Run]) -> Study:
    """The steady windows of runs already read."""
    scaling = decide_scaling(runs)
    by_size: dict[int, list[Run]] = {}
    for run in runs:
        by_size.setdefault(run.header.world_size, []).append(run)
    return Study(tuple(_observed(group) for _, group in sorted(by_size.items())), scaling)


def _observed(runs: Sequence[Run]) -> Observed:
    for run in runs:
        if any(set(COLUMNS[:-1]) - set(window.phases) for window in run.steady):
            raise HpcDlError(f"run {label(run)}", "its windows have no split into phases", "leave this run out")
        if run.header.world_size > 1 and not any(window.phases["exchange"].max > 0 for window in run.steady):
            raise HpcDlError(
                f"run {label(run)}",
                f"its exchange of gradients, by {run.header.exchanged_by}, was not measured apart from backward",
                "leave this run out",
            )
    rows = [_row(window) for run in runs for window in measure(run).windows]
    header = runs[0].header
    return Observed(header.world_size, header.nodes, header, np.array(rows))


def _row(window: Window) -> list[float]:
    phases = [window.phases[name].mean / window.steps for name in (*LOCAL_PHASES, "exchange")]
    alone = [window.phases[name] for name in ("forward", "backward")]
    return [*phases, sum(phase.max - phase.min for phase in alone) / window.steps]


def buckets_of(header: Header) -> Buckets:
    """The buckets a run sent, as far as its log tells: even in size and even in time."""
    exchange = header.settings.get("exchange", {})
    megabytes = float(exchange.get("bucket_megabytes") or DEFAULT_BUCKET_MEGABYTES)
    factor = COMPRESSION.get(str(exchange.get("compression")), 1.0)
    return uniform_buckets(header.gradient_bytes, megabytes * 2**20).compressed(factor)


def workload(observed: Observed, means: dict[str, float], buckets: Buckets) -> Workload:
    """One rank's step from the means of a size."""
    training = observed.header.settings.get("training", {})
    return Workload(
        name=observed.header.name,
        local_batch=observed.header.global_batch / observed.ranks,
        input_seconds=means["input"],
        forward_seconds=means["forward"],
        backward_seconds=means["backward"],
        optimizer_seconds=means["optimizer"],
        other_seconds=means["other"],
        buckets=buckets,
        accumulation=int(training.get("accumulation") or 1),
    )
