# SPDX-License-Identifier: Apache-2.0
"""A loop that stays as it is gets the log, the checkpoints, the resume and the end in time of a run.

model, optimizer = session.distribute(model, optimizer)
run = hpc_dl.Follow(session, model, optimizer, global_batch=128, folder="runs/mine")

Hooks tell its steps and phases (`seams.py`). What a run does between two steps is done as the next one begins, when the
loop has done all that belongs to the last, as the step of a schedule.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeVar

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from hpc_dl.comm import compare
from hpc_dl.comm.agreement import compare_tensors, is_due
from hpc_dl.data.loader import begin
from hpc_dl.errors import HpcDlError
from hpc_dl.run.between import Stopped
from hpc_dl.run.closing import close_with
from hpc_dl.run.folder import completed, run_folder
from hpc_dl.run.resume import BATCH, Course
from hpc_dl.run.seams import DDP, HOROVOD, Seams, exchanged_by
from hpc_dl.run.states import Drawn, Stateful
from hpc_dl.run.stopping import due
from hpc_dl.run.telling import Number, Telling
from hpc_dl.session import Session
from hpc_dl.settings import Settings

Item = TypeVar("Item")


class Follow(Telling):
    """Follows a loop from here on, to `close`, the end of its `with` block, the session's or the process's.

    All ranks make one, when all that its state names is there.

    Args:
        session: Started.
        model: What the loop calls: of `DistributedDataParallel` or `torch.compile`, what they return.
        optimizer: Whose step is that of the loop.
        global_batch: Samples of a step over all ranks.
        state: What a checkpoint holds, by name, as schedules; by default model and optimizer. The same on all ranks.
            It is loaded here. Where it is empty, no checkpoints are written.
        epochs: How many the run takes, for the log and `over`.
        steps: Where `batches` ends at the latest.
        steps_per_epoch: For the progress bar, and for epochs where the loop does not use `batches`.
        folder: Of the log and the checkpoints; by default the one that the job names, else a new one in runs/.
        resume: auto goes on from the newest whole checkpoint of the folder where there is one, must insists, never
            refuses a folder in which another run has written.
        seed: Seeds random numbers before each step, so that a resumed run draws those that an unbroken one does; by
            default they stay the loop's own.
        settings: `log`, `checkpoint`, `name` and `exchange.check_every_steps`.
        on_stop: Called where the ranks have agreed to stop, and the log is closed, for a loop that leaves by itself; by
            default it is left by SystemExit with code 0.

    Raises:
        HpcDlError: Settings differ between ranks; the newest checkpoint cannot be used; the optimizer has no hooks.
    """

    def __init__(
        self,
        session: Session,
        model: nn.Module,
        optimizer: Optimizer,
        *,
        global_batch: int,
        state: Mapping[str, Stateful] | None = None,
        epochs: int | None = None,
        steps: int | None = None,
        steps_per_epoch: int | None = None,
        folder: str | Path | None = None,
        resume: Literal["auto", "must", "never"] = "auto",
        seed: int | None = None,
        settings: Settings | None = None,
        on_stop: Callable[[], None] | None = None,
    ) -> None:
        if hasattr(optimizer, "params_attr"):
            raise HpcDlError("following an optimizer of IPEX", "its steps call no hooks", "use hpc_dl.Run")
        self._drawn, self._reading, self._pending, self._closed = Drawn(), 0, False, False
        self._seeded, self._on_stop = seed is not None, on_stop
        part = next((part for part in session.distributed if part.optimizer is optimizer), None)
        by = "hpc_dl" if part or session.world_size == 1 else exchanged_by(model, optimizer) or "unknown"
        bare = model.module if isinstance(model, DistributedDataParallel) else model
        settings = completed(settings or Settings(), session, bare, global_batch, epochs, steps, folder, resume)
        settings = replace(settings, training=replace(settings.training, seed=seed or 0))
        compare.settings(session.engine, settings)
        state = {"model": bare, "optimizer": optimizer} if state is None else state
        state = {**state, "batches drawn": self._drawn} if state else {}
        course = Course({BATCH: global_batch}, global_batch, steps_per_epoch)
        super().__init__(session, state, settings, run_folder(settings, session), course, epochs, steps)
        self.open(optimizer, model.parameters(), by)
        self._compared = dict(model.named_parameters()) if by in (DDP, HOROVOD) else {}
        self.seams = Seams(model, optimizer, self, backward_tells=part is None or session.world_size == 1)
        self._stack.callback(self.seams.close)
        if part is not None:
            part.exchange.lap = self.seams.lap
            self._stack.callback(setattr, part.exchange, "lap", lambda phase: None)
        self._stack.callback(close_with(session, weakref.WeakMethod(self.close)))
        self.begin_step()
        self._recorder.timer.restart()

    def batches(self, batches: Iterable[Item] | Callable[[int], Iterable[Item]]) -> Iterator[Item]:
        """The batches of an epoch that are left, until they or the run end: with them, epochs are known and resumed.

        Args:
            batches: As many on all ranks, of any kind; told the epoch where it has a method `set_epoch`. In an epoch
                that is resumed, `session.loader` and a function of the number of the first one begin there; of others
                those drawn before are read and dropped.
        """
        first = self._reading = self._drawn.batches
        left, behind = begin(batches, self.position.epoch, first)
        left = itertools.islice(left, behind, None)
        for number in itertools.count(first):
            self._settle()
            if self._at_last_step() or self._closed:
                return
            if self._seeded:
                self._seeds.batch(self.position.epoch, number)
            try:
                batch = next(left)
            except StopIteration:
                break
            self._reading = number + 1
            yield batch
        self.end_epoch()
        if due(self._settings.checkpoint.every_epochs, self.position.epoch):
            super().checkpoint()

    def record(
        self, loss: Number, samples: float | None = None, weight: float | Tensor | None = None, **terms: Number
    ) -> None:
        """Tell the log the loss of this step; of several calls in a step, as of parts of a batch, the mean counts.

        Args:
            loss: Mean over this rank's samples, or over whatever it averages.
            samples: This rank's, of this call; by default all calls have the same share of the global batch.
            weight: What the loss is a mean over, where that is not the samples.
            terms: Means over the same, by name, to be logged beside the loss; the same names on all ranks and in all
                steps.
        """
        each = float(next((given for given in (weight, samples) if given is not None), 1.0))
        self._weight += each
        self._told += samples or 0.0
        for name, value in {"": loss, **terms}.items():
            value = value.detach() if isinstance(value, Tensor) else value
            self._means[name] = self._means.get(name, 0.0) + value * each
        share = self._course.global_batch / self._session.world_size if samples is None else self._told
        scale = share / max(self._weight, 1e-300) if weight is None else 1.0
        sums = {name: total * scale for name, total in self._means.items()}
        self.took(sums.pop(""), share, sums, weight=share if weight is None else self._weight)

    def checkpoint(self, name: str = "") -> None:
        """Write one now; see `Between`."""
        self._settle()
        if not self._closed:
            super().checkpoint(name)

    def log_evaluation(self, metrics: dict[str, float], samples: int, seconds: float = 0.0) -> None:
        """Put into the log what an evaluation of all ranks' samples has found. All ranks call it."""
        self._settle()
        if not self._closed:
            super().log_evaluation(metrics, samples, seconds)

    def close(self, reason: str = "finished") -> None:
        """Write the end of the log and the last checkpoint, and let go of the loop. All ranks call it."""
        if self._closed:
            return
        self._closed = True
        with self._stack:
            if self._pending:
                self._pending = False
                self.conclude(self._ends_epoch())
            self.finish(reason)

    def __enter__(self) -> Follow:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> bool:
        if error is None:
            self.close()
        elif not self._closed:
            self.abandon()
        return isinstance(error, Stopped)

    def abandon(self) -> None:
        """Let go of the loop after an error: the log ends as it is."""
        self._closed = True
        self._stack.close()

    # What follows is called by the seams.

    def began(self, phase: str) -> None:
        """A step begins: what is due after the one before is done now."""
        self.lap(phase)
        self._settle()
        if self._seeded:
            self._seeds.step(self.position.step)

    def ended(self) -> None:
        """The optimizer has stepped."""
        self._drawn.batches = self._reading  # of the step; the next one's may be drawn when a checkpoint is written
        self.end_step()
        self._pending = True

    def aside(self) -> None:
        """An evaluation's time is no step's."""
        self._recorder.timer.restart()

    def begin_step(self) -> None:
        """A step begins, of which nothing is known yet."""
        super().begin_step()
        self._weight, self._told, self._means = 0.0, 0.0, dict[str, Any]()

    def end_epoch(self) -> None:
        """The next step belongs to another epoch."""
        super().end_epoch()
        self._drawn.batches = 0

    def _settle(self) -> None:
        """Conclude the step that is done; raises where the ranks have agreed to stop."""
        if not self._pending or self._closed:
            return
        self._pending = False
        self.conclude(self._ends_epoch())
        step = self.position.step
        if self._compared and is_due(step, self._settings.exchange.check_every_steps):
            compare_tensors(self._compared, self._session.engine, step)
        self.begin_step()
        if self._stop:
            self.close()
            if self._on_stop is None:
                raise Stopped
            self._on_stop()

    def _ends_epoch(self) -> bool:
        """Known without `batches` only where somebody said how many steps there are."""
        steps = self._course.steps_per_epoch
        if self._reading or steps is None:
            return False
        return self.position.epoch_samples >= steps * self._course.global_batch
