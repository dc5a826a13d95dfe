# SPDX-License-Identifier: Apache-2.0
"""A run of your own loop: it steps and evaluates; the run logs, writes checkpoints, resumes, and stops in time.

    with hpc_dl.start() as session:
        model, optimizer = session.distribute(model, optimizer)
        state = {"model": model, "optimizer": optimizer}
        with hpc_dl.Run(session, state, global_batch=128, epochs=20, folder="runs/mine") as run:
            for epoch in run.epochs():
                for batch in run.steps(loader):
                    ...
                    run.record(loss)

All that takes place between two steps does so on all ranks after the same step, whatever the batches look like.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import torch
from torch import Tensor

from hpc_dl.comm import compare
from hpc_dl.comm.buffers import average_buffers
from hpc_dl.data.seeds import batch_seed, seed_all, step_seed
from hpc_dl.errors import HpcDlError
from hpc_dl.run.checkpoint import Position
from hpc_dl.run.folder import completed, open_log, run_folder
from hpc_dl.run.phases import Phases
from hpc_dl.run.recorder import Recorder
from hpc_dl.run.states import Stateful, States
from hpc_dl.run.stopping import REASONS, Watch, Wish, due, job_end
from hpc_dl.runlog.records import End, Evaluation
from hpc_dl.session import Session
from hpc_dl.settings import Settings

Item = TypeVar("Item")


class _Stopped(BaseException):
    """Leaves the run's block when the ranks have agreed to stop."""


class Run:
    """What a loop needs besides its steps. All ranks make one, after all models are distributed.

    Args:
        session: Started; its distributed models and optimizers are timed.
        state: What a checkpoint holds, by name. The same on all ranks: rank 0 writes it, all ranks load it.
        global_batch: Samples of a step over all ranks.
        epochs: Where the run ends; None where the loop or `steps` says so.
        steps: Where the run ends at the latest.
        folder: Of the log and the checkpoints; by default the one that the job names, else a new one in runs/.
        settings: `log`, `checkpoint`, `name` and `training.seed`; by default a checkpoint in the folder is resumed.
            Random numbers are seeded before each step from the seed, the rank and the step, so that a resumed run draws
            those that an unbroken one does.

    Raises:
        HpcDlError: Nothing was distributed; settings differ between ranks; the newest checkpoint cannot be used.
    """

    def __init__(
        self,
        session: Session,
        state: Mapping[str, Stateful],
        *,
        global_batch: int,
        epochs: int | None = None,
        steps: int | None = None,
        folder: str | Path | None = None,
        settings: Settings | None = None,
    ) -> None:
        if not session.distributed:
            raise HpcDlError("Run", "no model is distributed", "call session.distribute(model, optimizer) before")
        self._session = session
        self._epochs, self._total, self._global_batch = epochs, steps, global_batch
        self._settings = completed(settings or Settings(), session, global_batch, epochs, steps, folder)
        compare.settings(session.engine, self._settings)
        self.folder = run_folder(self._settings, session)
        self.position = Position()
        """How far the run has come: steps, epochs, samples."""
        self._watch = Watch(self._settings.checkpoint, job_end(session.environ))
        self._states = States(session, state, self.folder, self._settings.checkpoint, global_batch)
        self._stop, self._whole = Wish.GO_ON, True
        self._written: Position | None = None
        self._loss_sum: Tensor | float = 0.0
        self._samples = 0.0
        self._stack = contextlib.ExitStack()

    @property
    def over(self) -> bool:
        """Is nothing left to do?"""
        return self._at_last_step() or self._at_last_epoch()

    @property
    def stopped(self) -> str:
        """Why the ranks have agreed to stop before the end; empty where they have not."""
        return REASONS.get(self._stop, "")

    def __enter__(self) -> Run:
        session, settings = self._session, self._settings
        if settings.checkpoint.resume != "never":
            self.position = self._states.load()
        self._optimizer = session.distributed[0].optimizer  # whose rate is logged
        parameters = {id(p): p for model, _, _ in session.distributed for p in model.parameters()}
        self._log = open_log(settings, session, self.folder, parameters.values())
        self._recorder = Recorder(
            session.engine, session.device, settings.log, self._total or 0, self._log, self._watch
        )
        self._phases = Phases(session.distributed, self._recorder.timer.lap, alone=session.world_size == 1)
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
            batches: As many on all ranks, of any kind. In an epoch that is resumed, those of the steps done are read
                and dropped; a function of the first step can do better. Random numbers are seeded before each is read.
        """
        first = self.position.epoch_samples // self._global_batch
        session, recorder = self._session, self._recorder
        self._seed_batch(0)
        left = iter(batches(first) if callable(batches) else batches)
        for number in range(0 if callable(batches) else first):
            self._seed_batch(number)
            next(left, None)
        self._whole = False
        recorder.timer.restart()
        for number in itertools.count(first):
            if self._at_last_step():
                return
            self._seed_batch(number)
            try:
                batch = next(left)
            except StopIteration:
                self.position = replace(self.position, epoch=self.position.epoch + 1, epoch_samples=0)
                self._whole = True
                return
            recorder.timer.lap("input")
            self._seed()
            self._loss_sum, self._samples = 0.0, self._global_batch / session.world_size
            self._phases.begin()
            try:
                yield batch
            finally:
                self._phases.end()
            self._end_step()
            if self._stop:
                raise _Stopped

    def record(self, loss: Tensor | float, samples: float | None = None) -> None:
        """Tell the log the loss of this step.

        Args:
            loss: Mean over this rank's samples, or over whatever it averages.
            samples: How much this rank averaged over; by default its share of the global batch.
        """
        if samples is not None:
            self._samples = float(samples)
        loss = loss.detach() if isinstance(loss, Tensor) else loss
        self._loss_sum = loss * self._samples

    def evaluated(self, samples: int, **means: Tensor | float) -> dict[str, float]:
        """Put an evaluation into the log. All ranks call it.

        Args:
            samples: How many this rank has evaluated.
            means: Means over them, by name.

        Returns:
            The means over the samples of all ranks.
        """
        numbers = [float(mean.detach() if isinstance(mean, Tensor) else mean) for mean in means.values()]
        own = [float(samples), *(number * samples if samples else 0.0 for number in numbers)]
        count, *sums = self._session.engine.reduce(torch.tensor(own, dtype=torch.float64), "sum", "evaluated").tolist()
        found = {name: total / count if count else float("nan") for name, total in zip(means, sums, strict=True)}
        position = self.position
        self._recorder.evaluation(Evaluation(position.step, position.epoch, round(count), 0.0, found))
        self._recorder.timer.restart()
        return found

    def checkpoint(self) -> None:
        """Write one now. All ranks call it, between two steps; those that are due are written by themselves."""
        self._written = self.position
        with self._watch.request.busy():
            for model, _, _ in self._session.distributed:
                average_buffers(model, self._session.engine)
            self._states.write(self.position)

    def _end_step(self) -> None:
        position = self.position
        rate = self._optimizer.param_groups[0]["lr"]
        self._recorder.step(position.step, position.epoch, self._samples, self._loss_sum, float(rate))
        self.position = replace(
            position,
            step=position.step + 1,
            epoch_samples=position.epoch_samples + self._global_batch,
            samples=position.samples + self._global_batch,
        )
        agreed, checkpoint = self._watch.agreed(), self._settings.checkpoint
        if agreed >= Wish.STOP_IN_TIME:
            self._stop = agreed
        asked = agreed == Wish.CHECKPOINT or due(checkpoint.every_steps, self.position.step)
        if asked or self._stop or (checkpoint.last and self._at_last_step()):
            self.checkpoint()
            self._recorder.timer.restart()

    def _finish(self) -> None:
        recorder, position = self._recorder, self.position
        recorder.settle()
        self._watch.request.agreed.set()  # nothing is left to agree on
        if self._settings.checkpoint.last and self._written != self.position:
            self.checkpoint()
        if self._session.rank == 0 and self._stop:
            print(
                f"stopped after step {position.step}, with a checkpoint: {self.stopped}; the same command goes on\n"
                f"run folder: {self.folder}",
                flush=True,
            )
        if self._log is not None:
            end = End(
                reason="stopped" if self._stop else "finished",
                steps=position.step - self._first.step,
                samples=position.samples - self._first.samples,
                seconds=time.perf_counter() - self._begun,
                startup_seconds=0.0,
                first_step_seconds=recorder.first_step_seconds,
            )
            self._log.write(end)

    def _seed(self) -> None:
        seed = step_seed(self._settings.training.seed, self._session.rank, self.position.step)
        seed_all(seed)
        self._session.device.seed(seed)

    def _seed_batch(self, number: int) -> None:
        """What order and augmentation of a batch are drawn from, where this process draws them."""
        seed_all(batch_seed(self._settings.training.seed, self._session.rank, self.position.epoch, number))

    def _at_last_step(self) -> bool:
        return self._total is not None and self.position.step >= self._total

    def _at_last_epoch(self) -> bool:
        return self._epochs is not None and self.position.epoch >= self._epochs
