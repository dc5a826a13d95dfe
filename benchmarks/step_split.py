# SPDX-License-Identifier: Apache-2.0
"""Known delays, slept in the loader, in one rank's forward pass and in the exchange: where are they booked?

    mpiexec -n 2 python benchmarks/step_split.py horovod
    mpiexec -n 2 python benchmarks/step_split.py torch --json split.json

Each case trains the same small model in one job, without and with the delay in turn; figures are medians over steps.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

import hpc_dl
from hpc_dl.comm import exchange, wrap
from hpc_dl.comm.single import SingleEngine
from hpc_dl.data.base import Arrays, Data, Pair
from hpc_dl.data.sharding import Indices
from hpc_dl.run.recorder import Recorder
from hpc_dl.run.stopping import Watch
from hpc_dl.runlog.records import PHASES, Window, from_line
from hpc_dl.runlog.sinks import LogWriter
from hpc_dl.session import Session
from hpc_dl.settings import DeviceSettings, ExchangeSettings, LogSettings, Settings, TrainingSettings
from hpc_dl.training.trainer import Trainer

SLOW_RANK = 1


@dataclass
class Delays:
    """Milliseconds slept at each place, now."""

    input: float = 0.0
    one_rank: float = 0.0
    exchange: float = 0.0


now = Delays()


class SlowArrays(Arrays):
    def batch(self, indices: Indices) -> Pair:
        time.sleep(now.input / 1000)
        return super().batch(indices)


class SlowOnOneRank(nn.Linear):
    rank = 0

    def forward(self, inputs: Tensor) -> Tensor:
        if self.rank == SLOW_RANK:
            time.sleep(now.one_rank / 1000)
        return super().forward(inputs)


class SlowExchange(exchange.GradientExchange):
    def receive(self, lost: bool) -> None:
        super().receive(lost)
        time.sleep(now.exchange / 1000)  # behind the wait: before it, the sum would go on meanwhile


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("engine", choices=["horovod", "torch"])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--delays", type=float, nargs=3, default=[50, 30, 20], help="loader, one rank, exchange; in ms")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with hpc_dl.start(ExchangeSettings(engine=options.engine), DeviceSettings(name="cpu", threads=1)) as session:
        rows = _measure(session, *options.delays, options.steps)
        if session.rank != 0:
            return
        for row in rows:
            print(
                f"{row['case']:<10} {row['asked_ms']:6.1f} ms asked, {row['found_ms']:6.1f} ms in {row['phase']} "
                f"({100 * (row['found_ms'] / row['asked_ms'] - 1):+.1f} %); parts sum to the step within "
                f"{100 * row['sum_error']:.2f} %; slowest rank {row['slowest_rank']}"
            )
        print(f"the split and its log cost {1e6 * _cost_seconds(session):.0f} us a step on rank 0, its two sums apart")
        if options.json:
            options.json.write_text(json.dumps(rows))


def _measure(session: Session, loader: float, one_rank: float, in_exchange: float, steps: int) -> list[dict]:
    """A row per delay. Waiting for another rank is part of the exchange, so the exchange itself is its minimum."""
    cases = [
        ("loader", Delays(input=loader), loader, "input", "mean"),
        ("one rank", Delays(one_rank=one_rank), one_rank, "forward", "max"),
        ("exchange", Delays(exchange=in_exchange), in_exchange, "exchange", "min"),
    ]
    rows = []
    for case, delays, asked, phase, which in cases:
        without, with_delay = _train(session, Delays(), steps), _train(session, delays, steps)
        if session.rank == 0:
            rows.append(
                {
                    "case": case,
                    "phase": phase,
                    "asked_ms": asked,
                    "found_ms": _milliseconds(with_delay, phase, which) - _milliseconds(without, phase, which),
                    "sum_error": max(
                        abs(sum(w.phases[name].mean for name in PHASES) / w.seconds.mean - 1) for w in with_delay
                    ),
                    "slowest_rank": statistics.mode(window.phases[phase].max_rank for window in with_delay),
                }
            )
    return rows


def _cost_seconds(session: Session, steps: int = 5000) -> float:
    """Of laps, windows and their lines in the log, per step, with nothing else in the step."""
    with tempfile.TemporaryDirectory() as folder, contextlib.closing(LogWriter(Path(folder))) as log:
        recorder = Recorder(SingleEngine(), session.device, LogSettings(progress="none"), [log], Watch())
        begun = time.perf_counter()
        for number in range(steps):
            for phase in PHASES:
                recorder.timer.lap(phase)
            recorder.timer.end_step()
            recorder.step(number, 0, 1, torch.ones(()), 0.1)
        recorder.settle()
        return (time.perf_counter() - begun) / steps


def _train(session: Session, delays: Delays, steps: int) -> list[Window]:
    """The steady windows of a run with these delays; on rank 0."""
    global now
    now = delays
    model = SlowOnOneRank(8, 1)
    model.rank = session.rank
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    usual, wrap.GradientExchange = wrap.GradientExchange, SlowExchange
    try:
        session.distribute(model, optimizer)
    finally:
        wrap.GradientExchange = usual
    inputs, target = torch.ones(4 * session.world_size * steps, 8), torch.ones(4 * session.world_size * steps, 1)
    data = Data(SlowArrays(inputs, target), Arrays(inputs[:2], target[:2]))
    settings = Settings(
        training=TrainingSettings(steps=steps, local_batch=4, evaluate_every_epochs=0),
        log=LogSettings(window_steps=1, warmup_steps=5, progress="none"),
    )
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.redirect_stdout(io.StringIO()):
            Trainer(model, optimizer, nn.functional.mse_loss, session, settings, Path(folder), {}).fit(data)
        lines = (Path(folder) / "log.jsonl").read_text() if session.rank == 0 else ""
    return _windows(lines)


def _windows(lines: str) -> list[Window]:
    records = [from_line(line) for line in lines.splitlines()]
    return [record for record in records if isinstance(record, Window) and not record.warmup]


def _milliseconds(windows: list[Window], phase: str, which: str) -> float:
    return 1000 * statistics.median(getattr(window.phases[phase], which) for window in windows)


if __name__ == "__main__":
    main()
