# SPDX-License-Identifier: Apache-2.0
"""Progress on rank 0: a bar on a terminal, one line per window in a batch log."""

from __future__ import annotations

import sys
from typing import Any, Literal, Protocol

from hpc_dl.runlog.records import Evaluation, Window

Style = Literal["auto", "bar", "lines", "none"]


class Progress(Protocol):
    """Hears of windows and evaluations."""

    def window(self, window: Window) -> None: ...
    def evaluation(self, evaluation: Evaluation) -> None: ...
    def close(self) -> None: ...


def choose(style: Style, total_steps: int, rank: int) -> Progress:
    """The progress display of this rank; of 0 steps where their number is not known."""
    if rank != 0 or style == "none":
        return _Silent()
    if style == "bar" or (style == "auto" and sys.stderr.isatty()):
        return _Bar(total_steps)
    return _Lines(total_steps)


class _Silent:
    def window(self, window: Window) -> None:
        return None

    def evaluation(self, evaluation: Evaluation) -> None:
        return None

    def close(self) -> None:
        return None


class _Lines:
    def __init__(self, total_steps: int) -> None:
        self._of = f"/{total_steps}" if total_steps else ""

    def window(self, window: Window) -> None:
        done = window.first_step + window.steps
        rate = window.samples / max(window.seconds.max, 1e-12)
        mark = "  warm-up" if window.warmup else ""
        _say(
            f"step {done}{self._of}  epoch {window.epoch}  loss {window.loss:.4f}  "
            f"{rate:.0f} samples/s  rate {window.learning_rate:.3g}{mark}"
        )

    def evaluation(self, evaluation: Evaluation) -> None:
        _say(f"epoch {evaluation.epoch}  {_metrics(evaluation)}")

    def close(self) -> None:
        return None


class _Bar:
    def __init__(self, total_steps: int) -> None:
        from tqdm import tqdm

        self._bar: Any = tqdm(total=total_steps or None, unit="step", dynamic_ncols=True)

    def window(self, window: Window) -> None:
        rate = window.samples / max(window.seconds.max, 1e-12)
        self._bar.set_postfix_str(f"loss {window.loss:.4f}, {rate:.0f} samples/s", refresh=False)
        self._bar.update(window.steps)

    def evaluation(self, evaluation: Evaluation) -> None:
        self._bar.write(f"epoch {evaluation.epoch}  {_metrics(evaluation)}")

    def close(self) -> None:
        self._bar.close()


def _metrics(evaluation: Evaluation) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in evaluation.metrics.items())


def _say(line: str) -> None:
    """Write a line in one piece: launchers that label lines would put a label before a newline that comes alone."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
