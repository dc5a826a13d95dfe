# SPDX-License-Identifier: Apache-2.0
"""A loop that takes its steps and epochs from a run."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TypeVar

from hpc_dl.data.loader import Batches, begin
from hpc_dl.errors import HpcDlError
from hpc_dl.run.between import Between, Stopped
from hpc_dl.run.phases import Phases
from hpc_dl.run.stopping import due

Item = TypeVar("Item")


class Loop(Between):
    """Logs, writes checkpoints, resumes and stops in time, for a loop that steps and evaluates.

    Its arguments are those of `Between`; the session's distributed models and optimizers are timed.
    """

    _whole = True
    """Is the position between two epochs?"""

    def __enter__(self) -> Loop:
        parts = self._parts
        self.open(parts[0].optimizer, [p for part in parts for p in part.model.parameters()])
        self._phases = Phases(parts, self.lap, alone=self._session.world_size == 1)
        self._stack.callback(self._phases.close)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> bool:
        with self._stack:
            if error is None or isinstance(error, Stopped):
                self.finish()
        return isinstance(error, Stopped)

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
                that is resumed, `session.loader` and a function of the first step begin behind the steps done; of
                others these are read and dropped. Random numbers are seeded before each is read.
        """
        first = self.position.epoch_samples // self._course.global_batch
        last = self._course.steps_per_epoch
        self._seeds.batch(self.position.epoch, 0)
        left, behind = begin(batches, self.position.epoch, first)
        for number in range(behind):
            self._seeds.batch(self.position.epoch, number)
            next(left, None)
        self._whole = False
        self._recorder.timer.restart()
        for number in itertools.count(first):
            if self._at_last_step() or self._whole:
                return
            self._seeds.batch(self.position.epoch, number)
            try:
                batch = next(left)
            except StopIteration:
                self.end_epoch()
                return
            self.lap("input")
            self._seeds.step(self.position.step)
            self.begin_step()
            if isinstance(batches, Batches):  # they know, also where the last of an epoch is smaller
                self._samples, self._global_samples = batches.samples, batches.global_samples
            self._phases.begin()
            try:
                yield batch
            finally:
                self._phases.end()
            self.end_step(self._phases.rate)
            self.conclude(ends_epoch=number + 1 == last)
            if self._stop:
                raise Stopped

    def end_epoch(self) -> None:
        """The next step belongs to another epoch."""
        super().end_epoch()
        self._whole = True
