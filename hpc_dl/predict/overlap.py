# SPDX-License-Identifier: Apache-2.0
"""Communication that hides behind backward: gradients become ready in buckets, one stream sums them in order.

Bucket k, ready at r_k, starts at max(r_k + delay, end of bucket k-1) and takes c_k; what outlasts backward is exposed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpc_dl.errors import HpcDlError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Buckets:
    """The gradient as the exchange sends it, in the order in which buckets fill up."""

    ready: Floats
    """Fraction of backward after which each bucket is full, rising, the last one 1."""
    size_bytes: Floats
    """Bytes of each bucket on the wire."""

    @property
    def total_bytes(self) -> float:
        return float(self.size_bytes.sum())

    def compressed(self, factor: float) -> Buckets:
        """The same buckets with `factor` times the bytes on the wire (0.5 for fp16 in place of fp32)."""
        return Buckets(self.ready, self.size_bytes * factor)


def uniform_buckets(gradient_bytes: float, bucket_bytes: float) -> Buckets:
    """Buckets of a model whose gradient arrives at an even rate during backward."""
    return fill_buckets([(1.0, gradient_bytes)], bucket_bytes)


def fill_buckets(parts: Sequence[tuple[float, float]], bucket_bytes: float) -> Buckets:
    """Cut a gradient into buckets as the exchange does.

    Args:
        parts: (share of backward's time, gradient bytes) of each layer in the order of backward, the last layer first.
        bucket_bytes: A bucket is sent as soon as it holds so many bytes.
    """
    seconds = np.array([max(share, 0.0) for share, _ in parts])
    arrived = np.concatenate(([0.0], np.cumsum([size for _, size in parts])))
    if not parts or arrived[-1] <= 0 or bucket_bytes <= 0 or seconds.sum() <= 0:
        raise HpcDlError(
            "gradient buckets", f"{arrived[-1]:g} bytes, buckets of {bucket_bytes:g} bytes", "give sizes above 0"
        )
    clock = np.concatenate(([0.0], np.cumsum(seconds))) / seconds.sum()
    count = max(1, round(arrived[-1] / bucket_bytes))
    edges = np.linspace(0.0, arrived[-1], count + 1)[1:]
    # Inside one layer bytes count as arriving evenly: a bucket that ends there is ready in the middle of it.
    ready = np.interp(edges, arrived, clock)
    ready[-1] = 1.0
    return Buckets(ready, np.diff(edges, prepend=0.0))


def pipeline_end(ready_seconds: Floats, cost_seconds: Floats, delay_seconds: float = 0.0) -> Floats:
    """End of the last bucket, on the clock of `ready_seconds`; leading axes are independent pipelines.

    e_k = max(r_k + delay, e_(k-1)) + c_k unrolls to C_k + max over j <= k of (r_j + delay - C_(j-1)), C the running sum
    of costs, so no loop over buckets is needed.
    """
    running = np.cumsum(cost_seconds, axis=-1)
    start = np.asarray(ready_seconds) + delay_seconds - (running - cost_seconds)
    return np.asarray(running[..., -1] + np.max(start, axis=-1))


def exposed_seconds(
    backward_seconds: float, buckets: Buckets, cost_seconds: Floats, delay_seconds: float = 0.0
) -> float:
    """Communication that outlasts backward, in seconds; the last bucket can never be hidden."""
    end = pipeline_end(buckets.ready * backward_seconds, cost_seconds, delay_seconds)
    return max(0.0, float(end) - backward_seconds)
