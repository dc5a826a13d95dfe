# SPDX-License-Identifier: Apache-2.0
"""A whole benchmark: every collective at every size, printed as it comes."""

from __future__ import annotations

import importlib.metadata
import platform
import socket
from collections.abc import Sequence
from datetime import datetime, timezone

from hpc_dl.bench import report
from hpc_dl.bench.measure import Plan, measure_all
from hpc_dl.bench.transports import Transport
from hpc_dl.errors import HpcDlError, nearest
from hpc_dl.predict.benchmark import Benchmark
from hpc_dl.predict.library import BACKENDS

PACKAGES = ("hpc_dl", "torch", "horovod", "mpi4py", "mpich")


def run(transport: Transport, device: str, plan: Plan, collectives: Sequence[str] = ()) -> Benchmark | None:
    """Measure; all ranks call it, the answer is on rank 0.

    Args:
        transport: The ranks.
        device: Name of the device the buffers are on.
        plan: Sizes and repeats.
        collectives: Which; all of the transport by default.
    """
    wanted = collectives or transport.collectives
    for name in wanted:
        if name not in transport.collectives:
            raise HpcDlError(
                f"collective {name!r} of engine {transport.engine}", "it has none", nearest(name, transport.collectives)
            )
    hosts = transport.gather(socket.gethostname())
    if hosts is not None:
        print(f"{transport.engine} over {transport.backend}, {transport.ranks} ranks on {len(set(hosts))} hosts")
        print(report.HEADER, flush=True)
    found = []
    for measurement in measure_all(transport, wanted, plan):
        if measurement is not None:
            found.append(measurement)
            print(report.line(measurement, transport.ranks), flush=True)
    if hosts is None:
        return None
    return Benchmark(
        engine=transport.engine,
        backend=transport.backend,
        library=BACKENDS.get(transport.backend, transport.backend),
        ranks=transport.ranks,
        nodes=len(set(hosts)),
        hosts=tuple(dict.fromkeys(hosts)),
        device=device,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        measurements=tuple(found),
        versions=_versions(),
    )


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
