# SPDX-License-Identifier: Apache-2.0
"""Loads the Horovod that was just installed and compares what it was built with to what was asked for."""

from __future__ import annotations

import sys
from importlib.metadata import version

import horovod.torch as hvd


def main(variant: str) -> int:
    """Print what Horovod was built with; 1 where something that the variant needs is missing."""
    built = {"MPI": hvd.mpi_built(), "Gloo": hvd.gloo_built(), "NCCL": bool(hvd.nccl_built())}
    wanted = ["MPI", "Gloo"] + (["NCCL"] if variant == "nccl" else [])
    missing = [name for name in wanted if not built[name]]
    words = ", ".join(f"{name} {'yes' if has else 'no'}" for name, has in built.items())
    print(f"build_horovod.sh: Horovod {version('horovod')} loads; built with {words}")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
