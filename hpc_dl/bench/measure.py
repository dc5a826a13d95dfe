# SPDX-License-Identifier: Apache-2.0
"""Time collectives: warm up, repeat behind barriers, take the slowest rank of each repeat, look for odd ranks."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpc_dl.bench.transports import Action, Transport
from hpc_dl.predict.benchmark import Measurement, Outlier

OUTLIER_RATIO = 1.2
"""A rank stands out where its median time is so many times the median of all ranks', and beyond their scatter."""
MAD_TO_SIGMA = 1.4826


@dataclass(frozen=True)
class Plan:
    """How long to measure."""

    smallest_bytes: int = 4
    largest_bytes: int = 2**30
    factor: int = 4
    seconds_per_size: float = 1.0
    """Repeats end when they have taken so long together."""
    fewest_repeats: int = 5
    most_repeats: int = 200
    warmups: int = 2
    seconds_in_all: float = 600.0
    """Sizes that would go beyond are left out, the largest first to go."""

    def sizes(self) -> list[int]:
        """Message sizes, each `factor` times the one before."""
        sizes = [self.smallest_bytes]
        while sizes[-1] * self.factor <= self.largest_bytes:
            sizes.append(sizes[-1] * self.factor)
        return sizes


def measure_all(transport: Transport, collectives: Sequence[str], plan: Plan) -> Iterator[Measurement | None]:
    """Measure every collective at every size; all ranks call it, rank 0 gets measurements, the others None."""
    start = time.perf_counter()
    for collective in collectives:
        for size in plan.sizes():
            left = plan.seconds_in_all - (time.perf_counter() - start)
            if not transport.broadcast(left > 0):
                return
            yield measure_one(transport, collective, size, plan)


def measure_one(transport: Transport, collective: str, size_bytes: int, plan: Plan) -> Measurement | None:
    """One collective at one size, on rank 0; None on the others."""
    own = repeat(transport, transport.prepare(collective, size_bytes), plan)
    gathered = transport.gather((socket.gethostname(), own))
    return None if gathered is None else summarise(collective, size_bytes, gathered)


def repeat(transport: Transport, action: Action, plan: Plan) -> list[float]:
    """This rank's seconds in each repeat; all ranks repeat equally often, as rank 0 decides after the warm-up."""
    for _ in range(plan.warmups):
        transport.barrier()
        action()
    first = _timed(transport, action)
    wanted = int(plan.seconds_per_size / max(first, 1e-9))
    repeats = transport.broadcast(min(max(wanted, plan.fewest_repeats), plan.most_repeats))
    return [_timed(transport, action) for _ in range(repeats)]


def _timed(transport: Transport, action: Action) -> float:
    transport.barrier()
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def summarise(collective: str, size_bytes: int, gathered: Iterable[tuple[str, Sequence[float]]]) -> Measurement:
    """Median and quartiles over repeats of the slowest rank, and the ranks that stand out.

    Args:
        gathered: Host name and seconds of every repeat, per rank.
    """
    hosts, times = zip(*gathered, strict=True)
    table = np.array(times)  # ranks x repeats
    slowest = table.max(axis=0)
    low, middle, high = np.quantile(slowest, [0.25, 0.5, 0.75])
    return Measurement(
        collective=collective,
        size_bytes=size_bytes,
        repeats=table.shape[1],
        seconds=float(middle),
        low_seconds=float(low),
        high_seconds=float(high),
        fastest_seconds=float(slowest.min()),
        outliers=tuple(_outliers(hosts, table)),
    )


def _outliers(hosts: Sequence[str], table: NDArray[np.float64]) -> Iterator[Outlier]:
    medians = np.median(table, axis=1)
    middle = float(np.median(medians))
    scatter = MAD_TO_SIGMA * float(np.median(np.abs(medians - middle)))
    for rank, value in enumerate(medians):
        if len(medians) > 2 and value > OUTLIER_RATIO * middle and value > middle + 3 * scatter:
            yield Outlier(rank, hosts[rank], float(value / middle))
