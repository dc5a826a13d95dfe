# SPDX-License-Identifier: Apache-2.0
"""Which algorithm a library takes for a collective of so many ranks and bytes: a table per library, with its source.

NCCL is not here: it reckons with its own cost model, see `nccl.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from hpc_dl.errors import HpcDlError, nearest

Rule = Callable[[int, float], str]
ELEMENT_BYTES = 4
KIBIBYTE = 1024


def _mpich_allreduce(p: int, size_bytes: float) -> str:
    """MPICH 5.0.2, the selection table compiled into its library: 8 bytes, or fewer elements than ranks."""
    few = size_bytes <= 8 or size_bytes / ELEMENT_BYTES < 1 << int(math.log2(p))
    return "recursive-doubling" if few else "rabenseifner"


def _mpich_broadcast(p: int, size_bytes: float) -> str:
    """Ibid.: binomial below 8 ranks or 12 KiB (per rank where the number of ranks is no power of two)."""
    if p & (p - 1):
        return "binomial-broadcast" if p < 8 or size_bytes / p <= 12 * KIBIBYTE else "scatter-broadcast"
    return "binomial-broadcast" if p < 8 or size_bytes <= 12 * KIBIBYTE else "scatter-broadcast"


def _mpich_allgather(p: int, size_bytes: float) -> str:
    """Ibid.: doubling to 512 KiB in all (Bruck to 80 KiB where the number of ranks is no power of two), then a ring."""
    limit = 80 * KIBIBYTE if p & (p - 1) else 512 * KIBIBYTE
    return "doubling-allgather" if size_bytes < limit else "ring-allgather"


def _mpich_reduce_scatter(p: int, size_bytes: float) -> str:
    """Ibid.: recursive halving to 512 KiB in all, then pairwise."""
    return "halving-reduce-scatter" if size_bytes < 512 * KIBIBYTE else "ring-reduce-scatter"


def _oneccl_allreduce(p: int, size_bytes: float) -> str:
    """oneCCL between nodes as ALCF's user guide advises (2026): direct to 1 MiB, Rabenseifner above."""
    return "direct" if size_bytes <= 2**20 else "rabenseifner"


LIBRARIES: dict[str, Mapping[str, Rule]] = {
    "mpich": {
        "allreduce": _mpich_allreduce,
        "broadcast": _mpich_broadcast,
        "allgather": _mpich_allgather,
        "reduce-scatter": _mpich_reduce_scatter,
    },
    # gloo/allreduce.cc and allgather.cc, broadcast.cc: rings and a binomial tree, whatever the size.
    "gloo": {
        "allreduce": lambda p, size: "ring",
        "broadcast": lambda p, size: "binomial-broadcast",
        "allgather": lambda p, size: "ring-allgather",
        "reduce-scatter": lambda p, size: "halving-reduce-scatter",
    },
    "oneccl": {"allreduce": _oneccl_allreduce, "broadcast": lambda p, size: "double-tree"},
}
BACKENDS = {"mpi": "mpich", "gloo": "gloo", "xccl": "oneccl"}
"""What an engine calls its backend, and the library behind it."""


def algorithm(library: str, collective: str, p: int, size_bytes: float) -> str:
    """Name of the algorithm in `collectives.ALGORITHMS`."""
    if library not in LIBRARIES:
        raise HpcDlError(f"library {library!r}", "its choice of algorithms is not known", nearest(library, LIBRARIES))
    if collective not in LIBRARIES[library]:
        raise HpcDlError(f"{collective} of {library}", "not in its table", nearest(collective, LIBRARIES[library]))
    return LIBRARIES[library][collective](p, size_bytes)
