# SPDX-License-Identifier: Apache-2.0
"""All that takes place between two steps of a loop, on all ranks after the same step, whatever the batches are."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from torch import Tensor

from hpc_dl.comm.buffers import average_buffers
from hpc_dl.data.seeds import batch_seed, seed_all, step_seed
from hpc_dl.errors import HpcDlError
from hpc_dl.run.checkpoint import Position
from hpc_dl.run.folder import open_sinks
from hpc_dl.run.phases import Phases
from hpc_dl.run.recorder import Recorder
from hpc_dl.run.resume import SAMPLES, Course
from hpc_dl.run.states import Stateful, States
from hpc_dl.run.stopping import REASONS, Watch, Wish, due, job_end
from hpc_dl.runlog.records import End, Evaluation
from hpc_dl.session import Session
from hpc_dl.settings import Settings

Item = TypeVar("Item")


class _Stopped(BaseException):
    """Leaves the loop's block when the ranks have agreed to stop."""


class Loop:
    """Logs, writes checkpoints, resumes and stops in time, for a loop that steps and evaluates.

    Args:
        session: Started; its distributed models and optimizers are timed.
        state: What a checkpoint holds, by name. The same on all ranks: rank 0 writes it, all ranks load it.
        settings: Complete; the same on all ranks.
        folder: Of the log and the checkpoints, the same on all ranks.
        course: Which samples the steps take.
        epochs: Where the loop ends; None where the caller or `steps` says so.
        steps: Where the loop ends at the latest.
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
        self._states = States(session, state, folder, settings.checkpoint, course)
        self.on_checkpoint: Callable[[], None] = lambda: None
        """Called on all ranks before a checkpoint is written."""
        self._stop, self._whole = Wish.GO_ON, True
        self._written: Position | None = None
        self._loss_sum: Tensor | float = 0.0
        self._terms: Mapping[str, Tensor | float] = {}
        self._samples, self._global_samples = 0.0, 0
        self._stack = contextlib.ExitStack()

    @property
    def over(self) -> bool:
        """Is nothing left to do?"""
        return self._at_last_step() or (self._epochs is not None and self.position.epoch >= self._epochs)

    @property
    def stopped(self) -> str:
        """Why the ranks have agreed to stop before the end; empty where they have not."""
        return REASONS.get(self._stop, "")

    def __enter__(self) -> Loop:
        session, settings = self._session, self._settings
        if settings.checkpoint.resume != "never":
            self.position = self._states.load()
        if self.total_steps is None and self._epochs is not None:
            left = self._course.steps_left(self._epochs, self.position)
            self.total_steps = None if left is None else self.position.step + left
        parameters = {id(p): p for model, _, _ in session.distributed for p in model.parameters()}
        samples = self._course.facts.get(SAMPLES, 0)
        sinks = open_sinks(settings, session, self.folder, parameters.values(), samples, self.total_steps or 0)
        self._recorder = Recorder(session.engine, session.device, settings.log, sinks, self._watch)
        self.lap = self._recorder.timer.lap
        self._phases = Phases(session.distributed, self.lap, alone=session.world_size == 1)
        self._stack.callback(self._phases.close)
        self._stack.callback(self._recorder.close)
        self._stack.enter_context(self._watch.request.listening())
        self._begun, self._first = time.perf_counter(), self.position
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> bool:
        with self._stack:
            if error is None or isinstance(error, _Stopped):
                self._finish()
        return isinstance(error, _Stopped)

    def epochs(self) -> Iterator[int]:
        """Numbers of the epochs that are left, from the one the run was resumed in."""
        while not self.over:
            before = self.position
            yield before.epoch
            if self.position == before:
                raise HpcDlError(f"epoch {before.epoch}", "the loop took no step in it", "loop over run.steps(batches)")
            if self._whole and due(self._settings.checkpoint.every_epochs, self.position.epoch):
                self.checkpoint()

    def steps(self, batches: Iterable[Item] | Callable[[int], Iterable[Item]]) -> Iterator[Item]:
        """The batches of an epoch, one for each step of the optimizer, until they or the run end.

        When the ranks agree to stop, a checkpoint is written and the run's `with` block is left at once, so that
        nothing is done twice. After a `break` the step under way does not count, and the epoch goes on with the next
        call.

        Args:
            batches: As many on all ranks, of any kind; told the epoch where it has a method `set_epoch`. In an epoch
                that is resumed, those of the steps done are read and dropped; a function of the first step can do
                better. Random numbers are seeded before each is read.
        """
        first = self.position.epoch_samples // self._course.global_batch
        last = self._course.steps_per_epoch
        if hasattr(batches, "set_epoch"):
            batches.set_epoch(self.position.epoch)
        self._seed_batch(0)
        left = iter(batches(first) if callable(batches) else batches)
        for number in range(0 if callable(batches) else first):
            self._seed_batch(number)
            next(left, None)
        self._whole = False
        self._recorder.timer.restart()
        for number in itertools.count(first):
            if self._at_last_step() or self._whole:
                return
            self._seed_batch(number)
            try:
                batch = next(left)
            except StopIteration:
                self._end_epoch()
                return
            self._begin_step()
            try:
                yield batch
            finally:
                self._phases.end()
            self._end_step(ends_epoch=number + 1 == last)
            if self._stop:
                raise _Stopped

    def took(
        self,
        loss_sum: Tensor | float,
        samples: float,
        terms: Mapping[str, Tensor | float] | None = None,
        global_samples: int | None = None,
    ) -> None:
        """Tell the log what this step took and found.

        Args:
            loss_sum: Sum of the losses of this rank's samples.
            samples: What the loss is a mean over, this rank's share.
            terms: Such sums of further quantities, by name; the same names on all ranks and in all steps.
            global_samples: Of all ranks, where that is not the global batch.
        """
        self._loss_sum, self._terms, self._samples = loss_sum, terms or {}, samples
        if global_samples is not None:
            self._global_samples = global_samples

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[None]:
        """Around an evaluation: buffers are averaged, a signal does not cut it off, and its time is no step's."""
        with self._watch.request.busy():
            for model, _, _ in self._session.distributed:
                average_buffers(model, self._session.engine)
            self._seed()
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
        self._written = self._written if name else self.position
        with self._watch.request.busy():
            for model, _, _ in self._session.distributed:
                average_buffers(model, self._session.engine)
            self.on_checkpoint()
            self._states.write(self.position, name)

    def _begin_step(self) -> None:
        self.lap("input")
        self._seed()
        self._loss_sum, self._terms = 0.0, {}
        self._samples = self._course.global_batch / self._session.world_size
        self._global_samples = self._course.global_batch
        self._phases.begin()

    def _end_step(self, ends_epoch: bool) -> None:
        position, samples = self.position, self._global_samples
        rate = float(self._phases.rate)
        self._recorder.step(position.step, position.epoch, self._samples, self._loss_sum, rate, self._terms)
        self.position = replace(
            position,
            step=position.step + 1,
            epoch_samples=position.epoch_samples + samples,
            samples=position.samples + samples,
        )
        if ends_epoch:  # before anything is written: a ragged last batch is no place to resume
            self._end_epoch()
        agreed, checkpoint = self._watch.agreed(), self._settings.checkpoint
        if agreed >= Wish.STOP_IN_TIME:
            self._stop = agreed
        asked = agreed == Wish.CHECKPOINT or due(checkpoint.every_steps, self.position.step)
        if asked or self._stop or (checkpoint.at_end and self._at_last_step()):
            self.checkpoint()
            self._recorder.timer.restart()

    def _end_epoch(self) -> None:
        self.position = replace(self.position, epoch=self.position.epoch + 1, epoch_samples=0)
        self._whole = True

    def _finish(self) -> None:
        recorder, position = self._recorder, self.position
        recorder.settle()
        self._watch.request.agreed.set()  # nothing is left to agree on
        if self._settings.checkpoint.at_end and self._written != position:
            self.checkpoint()
        if self._session.rank == 0 and self._stop:
            how = "the same command" if self._settings.checkpoint.resume != "never" else "--checkpoint.resume auto"
            print(f"stopped after step {position.step}, with a checkpoint: {self.stopped}; {how} goes on", flush=True)
        recorder.write(
            End(
                reason="stopped" if self._stop else "finished",
                steps=position.step - self._first.step,
                samples=position.samples - self._first.samples,
                seconds=time.perf_counter() - self._begun,
                startup_seconds=self._startup_seconds,
                first_step_seconds=recorder.first_step_seconds,
            )
        )

    def _seed(self) -> None:
        seed = step_seed(self._settings.training.seed, self._session.rank, self.position.step)
        seed_all(seed)
        self._session.device.seed(seed)

    def _seed_batch(self, number: int) -> None:
        """What order and augmentation of a batch are drawn from, where this process draws them."""
        seed_all(batch_seed(self._settings.training.seed, self._session.rank, self.position.epoch, number))

    def _at_last_step(self) -> bool:
        return self.total_steps is not None and self.position.step >= self.total_steps
