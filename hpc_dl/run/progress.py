# SPDX-License-Identifier: Apache-2.0
"""Progress on rank 0: a bar on a terminal, one line per window in a batch log."""

from __future__ import annotations

import sys
from typing import Any, Literal

from hpc_dl.runlog.records import Evaluation, Record, Window
from hpc_dl.runlog.sinks import Sink

Style = Literal["auto", "bar", "lines", "none"]


def choose(style: Style, total_steps: int) -> Sink | None:
    """The progress display; of 0 steps where their number is not known."""
    if style == "none":
        return None
    if style == "bar" or (style == "auto" and sys.stderr.isatty()):
        return _Bar(total_steps)
    return _Lines(total_steps)


class _Lines:
    def __init__(self, total_steps: int) -> None:
        self._of = f"/{total_steps}" if total_steps else ""

    def write(self, record: Record) -> None:
        if isinstance(record, Window):
            mark = "  warm-up" if record.warmup else ""
            _say(
                f"step {record.first_step + record.steps}{self._of}  epoch {record.epoch}  {_losses(record)}"
                f"{_speed(record):.0f} samples/s  rate {record.learning_rate:.3g}{mark}"
            )
        elif isinstance(record, Evaluation):
            _say(_metrics(record))

    def close(self) -> None:
        return None


class _Bar:
    def __init__(self, total_steps: int) -> None:
        from tqdm import tqdm

        self._bar: Any = tqdm(total=total_steps or None, unit="step", dynamic_ncols=True)

    def write(self, record: Record) -> None:
        if isinstance(record, Window):
            self._bar.set_postfix_str(f"{_losses(record)}{_speed(record):.0f} samples/s", refresh=False)
            self._bar.update(record.steps)
        elif isinstance(record, Evaluation):
            self._bar.write(_metrics(record))

    def close(self) -> None:
        self._bar.close()


def _speed(window: Window) -> float:
    """Samples per second."""
    return window.samples / max(window.seconds.max, 1e-12)


def _losses(window: Window) -> str:
    known = {**({} if window.loss is None else {"loss": window.loss}), **window.terms}
    return "".join(f"{name} {value:.4f}  " for name, value in known.items())


def _metrics(evaluation: Evaluation) -> str:
    metrics = "  ".join(f"{name} {value:.4f}" for name, value in evaluation.metrics.items())
    return f"epoch {evaluation.epoch}  {metrics}"


def _say(line: str) -> None:
    """Write a line in one piece: launchers that label lines would put a label before a newline that comes alone."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
