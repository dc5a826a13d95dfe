# SPDX-License-Identifier: Apache-2.0
"""To OpenMetrics text, for the textfile collector of a Prometheus node exporter: the newest value of every scalar.

All are gauges and have no time stamp, as that collector wants it; each file is written anew each time.
"""

from __future__ import annotations

import re
from pathlib import Path

from hpc_dl.errors import HpcDlError
from hpc_dl.export.files import library, put
from hpc_dl.export.results import Results, Scalar

INFO = ("name", "model", "world_size", "nodes", "engine", "backend", "device", "precision", "job_id", "git_revision")
"""Facts that become labels."""


def write(results: Results, output: str) -> str:
    """NAME.prom in the folder `output`."""
    client = library("prometheus_client", "prometheus_client", "export --to openmetrics")
    exposition = library("prometheus_client.openmetrics.exposition", "prometheus_client", "export --to openmetrics")
    registry = client.CollectorRegistry()

    def gauge(metric: str, explained: str, value: float, /, **labels: str) -> None:
        labels = {"run": results.name, **labels}
        client.Gauge(metric, explained, list(labels), registry=registry).labels(**labels).set(value)

    gauge("hpc_dl_run_info", "Facts of the run.", 1, **{f: str(results.facts.get(f, "")) for f in INFO})
    gauge("hpc_dl_run_ended", "1 where the run has ended, 0 where it goes on or was killed.", bool(results.end))
    last = results.scalars[-1] if results.scalars else None
    if last:
        gauge("hpc_dl_step", "Optimizer steps done.", last.step)
        gauge("hpc_dl_last_record_timestamp_seconds", "When they were done.", last.unix_seconds)
    for scalar, name in _newest(results).items():
        gauge(name, f"Newest {scalar.name}.", scalar.value)
    path = Path(output or "export/openmetrics") / f"{results.name}.prom"
    put(path, exposition.generate_latest(registry).decode())
    return str(path)


def _newest(results: Results) -> dict[Scalar, str]:
    """The last scalar of each name, and what Prometheus allows of the name."""
    newest = {scalar.name: scalar for scalar in results.scalars}
    names: dict[str, str] = {}
    for name in newest:
        metric = "hpc_dl_" + re.sub(r"[^a-zA-Z0-9_]", "_", name)
        if metric in names:
            raise HpcDlError(
                f"export of {results.folder} --to openmetrics",
                f"{names[metric]!r} and {name!r} are both {metric} in Prometheus",
                "give one of them another name, or export to csv",
            )
        names[metric] = name
    return {newest[name]: metric for metric, name in names.items()}
