# SPDX-License-Identifier: Apache-2.0
"""What a run tells while it trains: windows and evaluations, to the log, the screen and other sinks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from hpc_dl.comm.base import Engine
from hpc_dl.errors import HpcDlError
from hpc_dl.run.stopping import Watch
from hpc_dl.run.timer import StepTimer
from hpc_dl.run.windows import LocalWindow, WindowStream
from hpc_dl.runlog.records import Evaluation, Record, Window
from hpc_dl.runlog.sinks import Sink
from hpc_dl.settings import LogSettings

if TYPE_CHECKING:
    from hpc_dl.devices.base import Device


class Recorder:
    """Collects steps into windows on all ranks; rank 0 writes them.

    Args:
        engine: Reduces windows.
        device: Gives the marks of the timer.
        settings: Window length, warm-up steps.
        sinks: Where to write; none on all ranks but 0.
        watch: Hears what the ranks agree on.
    """

    def __init__(
        self,
        engine: Engine,
        device: Device,
        settings: LogSettings,
        sinks: Sequence[Sink],
        watch: Watch,
    ) -> None:
        self._settings, self._sinks = settings, sinks
        self._stream = WindowStream(engine, self._write_window, watch)
        self.timer = StepTimer(device)
        self._steps_done = 0
        """In this process: warm-up comes again after a restart."""
        self._window_steps = 0
        self._window_samples, self._loss_samples = 0.0, 0.0
        self._loss_sum: Tensor | float = 0.0
        self._terms: dict[str, Tensor | float] | None = None
        self._last = (0, 0, 0.0)
        self.first_step_seconds = 0.0

    def step(
        self,
        step: int,
        epoch: int,
        samples: float,
        loss_sum: Tensor | float | None,
        rate: float,
        terms: Mapping[str, Tensor | float] | None = None,
        weight: float | None = None,
    ) -> None:
        """Take in one step of this rank, which the timer has ended: its share of the samples, the sums of their losses,
        None where nobody told them, and of other terms, and what these are means over, where not the samples."""
        self._steps_done += 1
        self._window_steps += 1
        self._window_samples += samples
        if loss_sum is not None:
            self._loss_sum = self._loss_sum + loss_sum
            self._loss_samples += samples if weight is None else weight
        self._add(terms or {})
        self._last = (step, epoch, rate)
        # The first step is a window of its own: it holds what is done once. No window is half warm-up.
        boundaries = (1, self._settings.warmup_steps)
        if self._window_steps == self._settings.window_steps or self._steps_done in boundaries:
            self._end_window()

    def evaluation(self, evaluation: Evaluation) -> None:
        """Write an evaluation, behind all windows before it."""
        self.settle()
        self.write(evaluation)

    def settle(self) -> None:
        """Close the window under way and write all that is complete. All ranks call it."""
        if self._window_steps:
            self._end_window()
        self._stream.flush()

    def write(self, record: Record) -> None:
        """Write a record, on rank 0."""
        for sink in self._sinks:
            sink.write(record)

    def close(self) -> None:
        """Close the log, and give the screen back."""
        for sink in self._sinks:
            sink.close()

    def _add(self, terms: Mapping[str, Tensor | float]) -> None:
        if self._terms is None:
            self._terms = dict.fromkeys(terms, 0.0)
        if terms.keys() != self._terms.keys():
            raise HpcDlError(
                f"terms of a step: {', '.join(terms) or 'none'}",
                f"in the first step they were {', '.join(self._terms) or 'none'}",
                "record the same terms in all steps and on all ranks",
            )
        for name, value in terms.items():
            self._terms[name] = self._terms[name] + value

    def _end_window(self) -> None:
        phases, step_seconds = self.timer.take()
        step, epoch, rate = self._last
        if self._steps_done == 1:
            self.first_step_seconds = sum(phases.values())
        self._stream.push(
            LocalWindow(
                first_step=step + 1 - self._window_steps,
                warmup=self._steps_done <= self._settings.warmup_steps,
                epoch=epoch,
                samples=self._window_samples,
                phases=phases,
                step_seconds=tuple(step_seconds),
                learning_rate=rate,
                loss_sum=float(self._loss_sum),
                terms={name: float(total) for name, total in (self._terms or {}).items()},
                loss_samples=self._loss_samples,
            )
        )
        self._window_steps, self._window_samples, self._loss_samples = 0, 0.0, 0.0
        self._loss_sum, self._terms = 0.0, dict.fromkeys(self._terms or {}, 0.0)
        self.timer.lap("other")  # the log's own cost counts, but not as input

    def _write_window(self, window: Window) -> None:
        if window.loss is not None and not math.isfinite(window.loss):
            raise HpcDlError(
                f"training after step {window.first_step + window.steps}",
                f"the mean loss of the steps from {window.first_step} on is {window.loss}",
                "resume from a checkpoint before, with a lower learning rate, longer warm-up or training.clip_norm",
            )
        self.write(window)
