# SPDX-License-Identifier: Apache-2.0
"""`hpc-dl bench`: measure collectives between the ranks this was started on, and fit latency and bandwidth."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hpc_dl.checks import choices_of
from hpc_dl.settings import DeviceSettings, ExchangeSettings, Settings

if TYPE_CHECKING:
    from hpc_dl.bench.measure import Plan
    from hpc_dl.bench.transports import Transport
    from hpc_dl.predict.benchmark import Benchmark, ModelBuckets
    from hpc_dl.session import Session

EXAMPLES = """examples:
  mpiexec -n 4 hpc-dl bench --output bench-4.json          the engine training would use
  mpiexec -n 4 hpc-dl bench --engine mpi                   MPI alone: all four collectives
  mpiexec -n 4 hpc-dl bench --recipe mnist_cnn             and this model's own gradient buckets"""


@dataclass(frozen=True)
class _Ranks:
    """The ranks, ready to be measured; without a session for bare MPI."""

    transport: Transport
    device: str
    session: Session | None


def main(words: Sequence[str], environ: Mapping[str, str]) -> int:
    """Measure on all ranks; rank 0 prints and writes."""
    asked = _parser().parse_args(words)
    from hpc_dl.bench.measure import Plan

    plan = Plan(
        smallest_bytes=asked.smallest,
        largest_bytes=asked.largest,
        factor=asked.factor,
        seconds_per_size=asked.seconds,
        seconds_in_all=asked.limit,
    )
    settings = _settings(asked)
    with _ranks(asked.engine, settings, environ) as ranks:
        from hpc_dl.bench.run import run

        buckets = _buckets(ranks, settings, plan) if asked.recipe else None
        outcome = run(ranks.transport, ranks.device, plan, asked.collectives.split(",") if asked.collectives else [])
        if outcome is not None:
            _finish(replace(outcome, buckets=buckets), asked.output, asked.fit == "fastest")
    return 0


def _finish(outcome: Benchmark, output: str, fastest: bool) -> None:
    from hpc_dl.bench.report import buckets_text, fit_text, fit_values
    from hpc_dl.errors import HpcDlError
    from hpc_dl.predict.benchmark import samples
    from hpc_dl.predict.fit import fit

    if outcome.buckets:
        print(buckets_text(outcome.buckets))
    values = None
    try:
        found = fit(samples([outcome], fastest), outcome.library)
        print(fit_text(found, outcome))
        values = fit_values(found)
    except HpcDlError as error:
        print(f"no fit: {error.found}")
    if output:
        Path(output).write_text(outcome.to_json(values), encoding="utf-8")
        print(f"written: {output}")


def _settings(asked: argparse.Namespace) -> Settings:
    from hpc_dl.commands.train import read_settings

    settings = read_settings(asked.recipe, []) if asked.recipe else Settings()
    engine = settings.exchange.engine if asked.engine in ("mpi", None) else asked.engine
    device = asked.device or settings.device.name
    return replace(
        settings,
        exchange=replace(settings.exchange, engine=engine),
        device=replace(settings.device, name=device),
    )


@contextlib.contextmanager
def _ranks(engine: str | None, settings: Settings, environ: Mapping[str, str]) -> Iterator[_Ranks]:
    """Join the other ranks, by an engine as training does, or by MPI alone."""
    from hpc_dl.bench import transports

    if engine == "mpi":
        yield _Ranks(transports.mpi_transport(), "cpu", None)
        return
    from hpc_dl.session import start

    exchange: ExchangeSettings = settings.exchange
    device: DeviceSettings = settings.device
    with start(exchange, device, environ) as session:
        transport = transports.EngineTransport(session.engine, session.device)
        yield _Ranks(transport, session.device.name, session)


def _buckets(ranks: _Ranks, settings: Settings, plan: Plan) -> ModelBuckets | None:
    from hpc_dl.bench.buckets import profile
    from hpc_dl.errors import HpcDlError
    from hpc_dl.train import build_task

    if ranks.session is None:
        raise HpcDlError("--recipe with --engine mpi", "a model's buckets go over an engine", "leave one of them out")
    task = build_task(settings, ranks.session)
    training = settings.training
    batch = training.local_batch or max(1, (training.global_batch or 1) // ranks.transport.ranks)
    return profile(
        ranks.transport,
        settings.name,
        task.model,
        task.objective,
        task.data.train,
        batch,
        ranks.session.device,
        task.place,
        settings.device.precision,
        settings.exchange.bucket_megabytes,
        plan,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "hpc-dl bench", description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    engines = [name for name in choices_of(ExchangeSettings)["engine"] if name != "single"]
    parser.add_argument("--engine", choices=(*engines, "mpi"), help="mpi is MPI without an engine")
    parser.add_argument("--device", choices=choices_of(DeviceSettings)["name"])
    parser.add_argument("--collectives", default="", help="such as allreduce,broadcast; all the engine has by default")
    parser.add_argument("--smallest", type=int, default=4, metavar="BYTES")
    parser.add_argument("--largest", type=int, default=2**30, metavar="BYTES", help="default: 1 GiB")
    parser.add_argument("--factor", type=int, default=4, help="from one size to the next (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=1.0, help="of repeats per size (default: %(default)s)")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds after which no size is begun")
    parser.add_argument(
        "--fit",
        choices=("median", "fastest"),
        default="median",
        help="what of the repeats to fit; fastest is for a machine that others disturb",
    )
    parser.add_argument("--recipe", default="", help="a recipe or TOML file whose gradient buckets to measure as well")
    parser.add_argument("--output", default="", metavar="FILE", help="JSON for hpc-dl predict")
    return parser
