# SPDX-License-Identifier: Apache-2.0
"""`hpc-dl predict`: step time and efficiency at sizes not yet measured."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from hpc_dl.checks import choices_of
from hpc_dl.errors import HpcDlError
from hpc_dl.settings import ExchangeSettings

if TYPE_CHECKING:
    from hpc_dl.predict.forecast import Question
    from hpc_dl.predict.observed import Study
    from hpc_dl.predict.overlap import Buckets
    from hpc_dl.predict.posterior import Prior
    from hpc_dl.predict.step import Workload

EXAMPLES = """examples:
  hpc-dl predict runs/ --nodes 64,128                          from runs of three sizes and more
  hpc-dl predict runs/ --benchmark bench-4.json --ranks 16     from runs and what `hpc-dl bench` measured
  hpc-dl predict runs/one-node --machine perlmutter --nodes 8,32,128
  hpc-dl predict --machine perlmutter --step-seconds 0.15 --local-batch 256 --gradient-megabytes 102 --nodes 16"""


def main(words: Sequence[str], environ: Mapping[str, str]) -> int:
    """Predict; print, and write JSON where asked."""
    parser = _parser()
    asked = parser.parse_args(words)
    if not asked.ranks and not asked.nodes:
        parser.error("say for which sizes: --nodes or --ranks")
    from hpc_dl.predict import text
    from hpc_dl.predict.advise import advise
    from hpc_dl.predict.forecast import forecast

    found = forecast(_question(asked))
    last = found.points[-1].step
    advices = advise(found.workloads[-1], found.parameters, last.ranks, last.nodes)
    print(text.table(found))
    print("\n" + text.advice_table(advices, last.ranks))
    if asked.simulate:
        from hpc_dl.predict.simulate import what_if

        jitter = found.parameters.habits.jitter
        rows = what_if(found.workloads[-1], found.parameters.network, jitter, last.ranks, last.nodes, asked.simulate)
        print("\n" + text.what_if_table(rows, last.ranks, asked.simulate))
    _write(asked.output, text.values(found, advices))
    return 0


def _write(output: str, values: object) -> None:
    if output:
        Path(output).write_text(json.dumps(values, indent=1), encoding="utf-8")
        print(f"\nwritten: {output}")


def _question(asked: argparse.Namespace) -> Question:
    from hpc_dl.predict.forecast import Question
    from hpc_dl.predict.observed import read_runs

    study = read_runs(asked.runs) if asked.runs else None
    prior, buckets, per_node = _network(asked, study)
    ranks = [nodes * per_node for nodes in _numbers(asked.nodes)] or _numbers(asked.ranks)
    return Question(
        ranks=ranks,
        ranks_per_node=per_node,
        prior=prior,
        study=study,
        given=None if study else _given(asked, buckets),
        buckets=buckets,
        bandwidth_factor=asked.bandwidth_factor,
    )


def _network(asked: argparse.Namespace, study: Study | None) -> tuple[Prior, Buckets | None, int]:
    """What is known of the network, the profiled buckets if there are any, and the ranks of a node."""
    from hpc_dl.cluster import machines
    from hpc_dl.predict import benchmark, machine, posterior
    from hpc_dl.predict.fit import fit

    files = [benchmark.read_benchmark(path) for path in asked.benchmark]
    record = machines.load(asked.machine) if asked.machine else None
    per_node = asked.ranks_per_node or (record.ranks.per_node if record else 0)
    per_node = per_node or (max(size.header.ranks_per_node[1] for size in study.sizes) if study else 1)
    measured = [one for one in files if one.measurements]
    if measured:
        found = fit(benchmark.samples(measured, asked.fit == "fastest"), benchmark.one_library(measured))
        prior = posterior.from_benchmark(found, max(one.ranks for one in measured))
    elif record:
        prior = machine.from_machine(record)
    else:
        prior = posterior.nothing_known()
    engine = asked.engine or (study.header.engine if study else "")
    prior = replace(prior, negotiated=engine == "horovod" and not measured)
    return prior, next((one.buckets.as_sent() for one in files if one.buckets), None), per_node


def _given(asked: argparse.Namespace, buckets: Buckets | None) -> Workload | None:
    """One rank's step from the figures of the command line."""
    from hpc_dl.predict.overlap import uniform_buckets
    from hpc_dl.predict.step import Workload

    if asked.step_seconds is None:
        return None
    if buckets is None and asked.gradient_megabytes is None:
        raise HpcDlError("--step-seconds", "nothing says how large the gradient is", "give --gradient-megabytes")
    sent = buckets or uniform_buckets(asked.gradient_megabytes * 1e6, asked.bucket_megabytes * 2**20)
    third = asked.step_seconds / 3  # backward takes about twice as long as forward
    return Workload("given", asked.local_batch, 0.0, third, 2 * third, 0.0, 0.0, sent)


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")] if text else []
    except ValueError:
        raise HpcDlError(f"sizes {text!r}", "not numbers", "write them as 16,32,64") from None


class _Moved(argparse.Action):
    """The validation needs tables that are not installed."""

    def __call__(self, parser: object, namespace: object, values: object, option: str | None = None) -> NoReturn:
        raise HpcDlError(
            "hpc-dl predict --validate",
            "the validation on published results is no part of the installed program",
            "in a checkout of hpc_dl, run: python -m benchmarks.published [TABLE]",
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "hpc-dl predict", description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("runs", nargs="*", type=Path, metavar="RUN", help="run folders, or folders that hold runs")
    add("--nodes", default="", metavar="N,N,...", help="sizes to predict, in nodes")
    add("--ranks", default="", metavar="N,N,...", help="sizes to predict, in ranks")
    add("--ranks-per-node", type=int, default=0, metavar="N", help="default: of the machine, else of the runs")
    add("--benchmark", nargs="+", type=Path, default=[], metavar="FILE", help="what `hpc-dl bench --output` wrote")
    add("--fit", choices=("median", "fastest"), default="median", help="what of a benchmark's repeats to fit")
    add("--machine", default="", help="a machine record by name or file")
    engines = [name for name in choices_of(ExchangeSettings)["engine"] if name not in ("auto", "single")]
    add("--engine", choices=engines, help="default: that of the runs")
    add("--bandwidth-factor", type=float, default=1.0, metavar="X", help="what if the network were X times as fast")
    add("--step-seconds", type=float, metavar="S", help="forward and backward of one rank, where there are no runs")
    add("--local-batch", type=float, default=1.0, metavar="N", help="samples of that step")
    add("--gradient-megabytes", type=float, metavar="MB", help="of that model, 10^6 bytes")
    add("--bucket-megabytes", type=float, default=25.0, metavar="MiB")
    add("--validate", nargs="?", action=_Moved, help=argparse.SUPPRESS)
    add("--simulate", type=int, default=0, metavar="STEPS", help="simulate the largest size, disturbed in several ways")
    add("--output", default="", metavar="FILE", help="write JSON as well")
    return parser
