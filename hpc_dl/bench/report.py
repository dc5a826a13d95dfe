# SPDX-License-Identifier: Apache-2.0
"""What `hpc-dl bench` prints: a line per measurement as nccl-tests has it, odd ranks, and the fit with its errors."""

from __future__ import annotations

import math
from typing import Any

from hpc_dl.predict.benchmark import Benchmark, Measurement, ModelBuckets
from hpc_dl.predict.fit import Fit, Piece

HEADER = (
    f"{'collective':<15}{'size (B)':>13}{'repeats':>9}{'time (us)':>12}{'quartiles (us)':>22}{'algbw':>9}{'busbw':>9}"
)


def line(measurement: Measurement, ranks: int) -> str:
    """One measurement; bandwidths in GB/s."""
    m = measurement
    quartiles = f"{m.low_seconds * 1e6:.1f}-{m.high_seconds * 1e6:.1f}"
    text = f"{m.collective:<15}{m.size_bytes:>13}{m.repeats:>9}{m.seconds * 1e6:>12.1f}"
    text += f"{m.fastest_seconds * 1e6:>12.1f}{quartiles:>22}"
    text += f"{m.algorithm_bandwidth:>9.3f}{m.bus_bandwidth(ranks):>9.3f}"
    for odd in m.outliers:
        text += f"\n    rank {odd.rank} on {odd.host} takes {odd.ratio:.2f} times as long as the others"
    return text


def fit_text(fit: Fit, benchmark: Benchmark) -> str:
    """The fitted parameters with standard errors."""
    what = "bandwidth and reduction apart" if fit.separate_reduction else "bandwidth (reduction included)"
    lines = [
        f"fit of latency, {what}, to {fit.samples} measurements on {benchmark.ranks} ranks "
        f"({fit.library}'s algorithms); they scatter by {fit.scatter:.1%} about it"
    ]
    return "\n".join([*lines, *(f"  {_piece(piece, fit)}" for piece in fit.pieces)])


def _piece(piece: Piece, fit: Fit) -> str:
    link, error = piece.link, piece.errors
    size = "all sizes" if math.isinf(piece.up_to_bytes) else f"up to {piece.up_to_bytes:,.0f} B"
    if math.isinf(piece.up_to_bytes) and len(fit.pieces) > 1:
        size = "beyond"
    latency = f"latency {link.latency_seconds * 1e6:.2f} +- {error.latency_seconds * 1e6:.2f} us a message"
    text = f"{size}: {latency}, bandwidth {_rate(link.seconds_per_byte, error.seconds_per_byte)}"
    if fit.separate_reduction:
        text += f", reduction {_rate(link.reduce_seconds_per_byte, error.reduce_seconds_per_byte)}"
    return text


def _rate(seconds_per_byte: float, error: float) -> str:
    if seconds_per_byte == 0:
        return "not seen"
    return f"{1e-9 / seconds_per_byte:.3f} +- {1e-9 * error / seconds_per_byte**2:.3f} GB/s"


def buckets_text(buckets: ModelBuckets) -> str:
    """The buckets of a model."""
    b = buckets
    head = (
        f"{b.model}, local batch {b.local_batch}: forward {b.forward_seconds * 1e3:.1f} ms, "
        f"backward {b.backward_seconds * 1e3:.1f} ms, {sum(b.size_bytes):,} bytes in {len(b.size_bytes)} buckets"
    )
    rows = [
        f"  bucket {k}: {size:>12,} B, full after {ready:5.1%} of backward, summed in {seconds * 1e3:.2f} ms"
        for k, (size, ready, seconds) in enumerate(zip(b.size_bytes, b.ready, b.seconds, strict=True))
    ]
    return "\n".join([head, *rows])


def fit_values(fit: Fit) -> dict[str, Any]:
    """The fit as plain values, for the JSON file."""
    return {
        "library": fit.library,
        "scatter": fit.scatter,
        "separate_reduction": fit.separate_reduction,
        "samples": fit.samples,
        "pieces": [
            {
                "up_to_bytes": None if math.isinf(piece.up_to_bytes) else piece.up_to_bytes,
                "latency_seconds": piece.link.latency_seconds,
                "latency_error_seconds": piece.errors.latency_seconds,
                "seconds_per_byte": piece.link.seconds_per_byte,
                "error_seconds_per_byte": piece.errors.seconds_per_byte,
                "reduce_seconds_per_byte": piece.link.reduce_seconds_per_byte,
                "reduce_error_seconds_per_byte": piece.errors.reduce_seconds_per_byte,
            }
            for piece in fit.pieces
        ],
    }
