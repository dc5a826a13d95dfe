# SPDX-License-Identifier: Apache-2.0
"""All that takes place between two steps of a loop, on all ranks after the same step, whoever drives the loop."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from hpc_dl.comm.buffers import average_buffers
from hpc_dl.run.checkpoint import Position
from hpc_dl.run.folder import open_sinks
from hpc_dl.run.recorder import Recorder
from hpc_dl.run.resume import SAMPLES, Course
from hpc_dl.run.seeds import Seeds
from hpc_dl.run.states import Stateful, States
from hpc_dl.run.stopping import REASONS, Watch, Wish, due, job_end
from hpc_dl.runlog.records import End, Evaluation
from hpc_dl.session import Session
from hpc_dl.settings import Settings


class Stopped(SystemExit):
    """Leaves a loop when the ranks have agreed to stop; a process that nobody keeps from it ends with code 0."""

    def __init__(self) -> None:
        super().__init__(0)


class Between:
    """Logs, writes checkpoints, resumes and agrees on a stop, for whoever says where steps begin and end.

    Args:
        session: Started; buffers of the distributed models in the state are averaged before they are used or written.
        state: What a checkpoint holds, by name. The same on all ranks: rank 0 writes it, all ranks load it. Where it is
            empty, none are written.
        settings: Complete; the same on all ranks.
        folder: Of the log and the checkpoints, the same on all ranks.
        course: Which samples the steps take.
        epochs: Where the run ends; None where the caller or `steps` says so.
        steps: Where the run ends at the latest.
        startup_seconds: What the process had spent before; written to the log.
    """

    def __init__(
        self,
        session: Session,
        state: Mapping[str, Stateful],
        settings: Settings,
        folder: Path,
        course: Course,
        epochs: int | None = None,
        steps: int | None = None,
        startup_seconds: float = 0.0,
    ) -> None:
        self._session, self._settings, self._course = session, settings, course
        self._epochs, self.total_steps = epochs, steps
        self._startup_seconds = startup_seconds
        self.folder = folder
        self.position = Position()
        """How far the run has come: steps, epochs, samples."""
        self._watch = Watch(settings.checkpoint, job_end(session.environ))
        self._parts = session.distributed_of(state)
        self._seeds = Seeds(session, settings.training.seed)
        self._keeps = bool(state)
        self._states = States(session, state, folder, settings.checkpoint, course)
        self.on_checkpoint: Callable[[], None] = lambda: None
        """Called on all ranks before a checkpoint is written."""
        self._stop = Wish.GO_ON
        self._written: Position | None = None
        self._loss_sum: Tensor | float | None = None
        self._terms: Mapping[str, Tensor | float] = {}
        self._samples, self._loss_weight, self._global_samples, self._rate = 0.0, 0.0, 0, 0.0
        self._stack = contextlib.ExitStack()

    @property
    def over(self) -> bool:
        """Is nothing left to do?"""
        return self._at_last_step() or (self._epochs is not None and self.position.epoch >= self._epochs)

    @property
    def stopped(self) -> str:
        """Why the ranks have agreed to stop before the end; empty where they have not."""
        return REASONS.get(self._stop, "")

    def open(self, optimizer: Optimizer, parameters: Iterable[Parameter], exchanged_by: str = "hpc_dl") -> None:
        """Resume, and begin the log.

        Args:
            optimizer: Whose rate is logged.
            parameters: Of all models, for their size.
            exchanged_by: Who averages the gradients.
        """
        session, settings = self._session, self._settings
        if self._keeps and settings.checkpoint.resume != "never":
            self.position = self._states.load()
        if self.total_steps is None and self._epochs is not None:
            left = self._course.steps_left(self._epochs, self.position)
            self.total_steps = None if left is None else self.position.step + left
        self._optimizer = optimizer
        samples = self._course.facts.get(SAMPLES, 0)
        different = {id(parameter): parameter for parameter in parameters}.values()
        sinks = open_sinks(settings, session, self.folder, different, samples, self.total_steps or 0, exchanged_by)
        self._recorder = Recorder(session.engine, session.device, settings.log, sinks, self._watch)
        self.lap = self._recorder.timer.lap
        self._stack.callback(self._recorder.close)
        self._stack.enter_context(self._watch.request.listening())
        self._begun, self._first = time.perf_counter(), self.position

    def took(
        self,
        loss_sum: Tensor | float,
        samples: float,
        terms: Mapping[str, Tensor | float] | None = None,
        global_samples: int | None = None,
        weight: float | None = None,
    ) -> None:
        """Tell the log what this step took and found.

        Args:
            loss_sum: Sum of the losses of this rank's samples, or of what else they average over.
            samples: This rank's share of them.
            terms: Such sums of further quantities, by name; the same names on all ranks and in all steps.
            global_samples: Of all ranks, where that is not the global batch.
            weight: What the loss is a mean over, where that is not the samples.
        """
        self._loss_sum, self._terms, self._samples = loss_sum, terms or {}, samples
        self._loss_weight = samples if weight is None else weight
        if global_samples is not None:
            self._global_samples = global_samples

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[None]:
        """Around an evaluation: buffers are averaged, a signal does not cut it off, and its time is no step's."""
        with self._watch.request.busy():
            for model, _, _ in self._parts:
                average_buffers(model, self._session.engine)
            self._seeds.step(self.position.step)
            yield
        self._recorder.timer.restart()

    def log_evaluation(self, metrics: dict[str, float], samples: int, seconds: float = 0.0) -> None:
        """Put into the log what an evaluation of all ranks' samples has found. All ranks call it."""
        position = self.position
        self._recorder.evaluation(Evaluation(position.step, position.epoch, samples, seconds, metrics))
        self._recorder.timer.restart()

    def end(self, why: str) -> None:
        """Let this step be the last one. All ranks call it."""
        self.total_steps = self.position.step
        if self._session.rank == 0:
            print(f"ended after step {self.position.step}: {why}", flush=True)

    def checkpoint(self, name: str = "") -> None:
        """Write one now. All ranks call it, between two steps; those that are due are written by themselves.

        Args:
            name: Of one that is kept beside the others, such as "best", and not resumed from.
        """
        if not self._keeps:
            return
        self._written = self._written if name else self.position
        with self._watch.request.busy():
            for model, _, _ in self._parts:
                average_buffers(model, self._session.engine)
            self.on_checkpoint()
            self._states.write(self.position, name)

    # What follows is for those who drive the loop, in this order.

    def begin_step(self) -> None:
        """A step begins, of which nothing is known yet."""
        self._loss_sum, self._terms = None, {}
        self._samples = self._course.global_batch / self._session.world_size
        self._global_samples = self._course.global_batch

    def end_step(self, rate: Any = None) -> None:
        """It is done, and counts; its time ends here.

        Args:
            rate: The step's, where the optimizer may have another by now.
        """
        self._recorder.timer.end_step()
        self._rate = float(self._optimizer.param_groups[0]["lr"] if rate is None else rate)
        self.position = replace(
            self.position,
            step=self.position.step + 1,
            epoch_samples=self.position.epoch_samples + self._global_samples,
            samples=self.position.samples + self._global_samples,
        )

    def conclude(self, ends_epoch: bool) -> None:
        """All that is known of the step goes to the log; then comes what is due, and whether to stop is known."""
        position = self.position
        self._recorder.step(
            position.step - 1, position.epoch, self._samples, self._loss_sum, self._rate, self._terms, self._loss_weight
        )
        if ends_epoch:  # before anything is written: a ragged last batch is no place to resume
            self.end_epoch()
        agreed, checkpoint = self._watch.agreed(), self._settings.checkpoint
        if agreed >= Wish.STOP_IN_TIME:
            self._stop = agreed
        asked = agreed == Wish.CHECKPOINT or due(checkpoint.every_steps, self.position.step)
        if asked or self._stop or (checkpoint.at_end and self._at_last_step()):
            self.checkpoint()
            self._recorder.timer.restart()

    def end_epoch(self) -> None:
        """The next step belongs to another epoch."""
        self.position = replace(self.position, epoch=self.position.epoch + 1, epoch_samples=0)

    def finish(self, reason: str = "finished") -> None:
        """The last line of the log, and the last checkpoint."""
        recorder, position = self._recorder, self.position
        recorder.settle()
        self._watch.request.agreed.set()  # nothing is left to agree on
        if self._settings.checkpoint.at_end and self._written != position:
            self.checkpoint()
        if self._session.rank == 0 and self._stop:
            print(f"stopped after step {position.step}, {self._how_to_go_on()}", flush=True)
        recorder.write(
            End(
                reason="stopped" if self._stop else reason,
                steps=position.step - self._first.step,
                samples=position.samples - self._first.samples,
                seconds=time.perf_counter() - self._begun,
                startup_seconds=self._startup_seconds,
                first_step_seconds=recorder.first_step_seconds,
            )
        )

    def _how_to_go_on(self) -> str:
        if not self._keeps:
            return f"without a checkpoint of hpc-dl: {self.stopped}; what the script has written itself is there"
        how = "the same command" if self._settings.checkpoint.resume != "never" else "--checkpoint.resume auto"
        return f"with a checkpoint: {self.stopped}; {how} goes on"

    def _at_last_step(self) -> bool:
        return self.total_steps is not None and self.position.step >= self.total_steps
