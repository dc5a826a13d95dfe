# SPDX-License-Identifier: Apache-2.0
"""The loop: epochs and steps, evaluation, checkpoints. Nothing else."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from hpc_dl.comm import compare
from hpc_dl.comm.buffers import average_buffers
from hpc_dl.data.base import Data
from hpc_dl.data.seeds import seed_all, step_seed
from hpc_dl.data.sharding import Plan
from hpc_dl.data.workers import Loader
from hpc_dl.errors import HpcDlError
from hpc_dl.run.checkpoint import Checkpoints, Position
from hpc_dl.run.recorder import Recorder
from hpc_dl.run.resume import changes, load, newest, order_of, position_in
from hpc_dl.run.stopping import REASONS, Watch, Wish, due
from hpc_dl.runlog.records import End, Evaluation, LogWriter
from hpc_dl.settings import Settings
from hpc_dl.training.evaluation import evaluate
from hpc_dl.training.metrics import Metric
from hpc_dl.training.modes import put_into_training
from hpc_dl.training.optimizers import set_rates
from hpc_dl.training.plans import held_back_plan, training_plan
from hpc_dl.training.schedule import rate_factor
from hpc_dl.training.step import Loss, TrainingStep
from hpc_dl.training.sync_batchnorm import together_of
from hpc_dl.training.weighing import over_classes

if TYPE_CHECKING:
    from hpc_dl.comm.base import Engine
    from hpc_dl.comm.wrap import Exchange
    from hpc_dl.devices.base import Device


class Team(Protocol):
    """What the trainer needs of a session: device, engine, and the exchange of the model's gradients."""

    @property
    def device(self) -> Device: ...
    @property
    def engine(self) -> Engine: ...
    @property
    def exchange(self) -> Exchange | None: ...


@dataclass(frozen=True)
class Outcome:
    """How a training run ended."""

    reason: str
    """finished or stopped."""
    position: Position
    metrics: dict[str, float]
    """Of the last evaluation."""
    why: str = ""
    """Why it stopped before its end."""


class Trainer:
    """Trains a plain module with a plain optimizer and loss, on one rank or many.

    Args:
        model: Any module, on the device; `session.distribute(model, optimizer)` has been called.
        optimizer: Every parameter group learns at its own rate times the schedule's factor.
        loss: loss(output, target), the mean over the samples it is given, or a mean and its weight (`weighing.py`).
        session: Device, engine and exchange.
        settings: Read for training, schedule, precision, log and checkpoints.
        run_folder: Where checkpoints go.
        metrics: Of the evaluation, by name.
        log: Where rank 0 writes; None on the others.
        watch: When to write a checkpoint and when to stop; by default training stops when it is asked to.
        least_samples: With how many the model can be trained at a time (`rehearsal.rehearse` tells).
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss: Loss,
        session: Team,
        settings: Settings,
        run_folder: Path,
        metrics: Mapping[str, Metric],
        log: LogWriter | None = None,
        watch: Watch | None = None,
        least_samples: int = 1,
    ) -> None:
        if session.exchange is None:
            raise HpcDlError("Trainer", "the model is not distributed", "call session.distribute(model, optimizer)")
        self._model, self._optimizer, self._loss, self._metrics = model, optimizer, loss, metrics
        set_rates(optimizer, 1.0)  # now, since a checkpoint's groups bring the rates of the run before
        self._device, self._engine = session.device, session.engine
        self._settings, self._log, self._least_samples = settings, log, least_samples
        training = settings.training
        self._step = TrainingStep(
            model,
            optimizer,
            loss,
            session.exchange,
            session.device,
            session.engine.world_size,
            precision=settings.device.precision,
            accumulation=training.accumulation,
            clip_norm=training.clip_norm,
            agree=self._agree if session.engine.world_size > 1 else None,
            least_samples=least_samples,
        )
        self._checkpoints = Checkpoints(run_folder, settings.checkpoint.keep)
        self._watch = watch or Watch(settings.checkpoint)
        self._position, self._order = Position(), dict[str, int]()
        self._evaluation: Evaluation | None = None

    def fit(self, data: Data, startup_seconds: float = 0.0) -> Outcome:
        """Train to the end of the settings' epochs or steps, or until the ranks agree to stop.

        Args:
            data: Training and evaluation samples.
            startup_seconds: What the process had spent before; written to the log.
        """
        training = self._settings.training
        compare.data(self._engine, data)
        plan = training_plan(self._settings, len(data.train), self._engine, self._least_samples)
        if together_of(self._model):
            inputs, target = data.train.batch(np.zeros(1, dtype=np.int64))
            self._step.stand_in = self._to_device(inputs), self._to_device(target)
        put_into_training(self._model)
        self._order = order_of(plan)
        loader = Loader(data.train, plan, self._settings.data.workers, reseed=True)
        held_back = Loader(data.evaluation, held_back_plan(plan, len(data.evaluation)), reseed=True)
        if self._settings.checkpoint.resume != "never":
            self._resume(plan)
        total_steps = training.steps or self._position.step + _steps_left(training.epochs, self._position, plan)
        recorder = Recorder(self._engine, self._device, self._settings.log, total_steps, self._log, self._watch)
        begun, first = time.perf_counter(), self._position
        with self._watch.request.listening():
            stop = self._steps(loader, plan, total_steps, held_back, recorder)
            self._watch.request.agreed.set()  # nothing is left to agree on
            if stop or self._settings.checkpoint.last:
                self._write_checkpoint()
            end = End(
                reason="stopped" if stop else "finished",
                steps=self._position.step - first.step,
                samples=self._position.samples - first.samples,
                seconds=time.perf_counter() - begun,
                startup_seconds=startup_seconds,
                first_step_seconds=recorder.first_step_seconds,
            )
            if self._log is not None:
                self._log.write(end)
        metrics = self._evaluation.metrics if self._evaluation else {}
        return Outcome(end.reason, self._position, metrics, REASONS.get(stop, ""))

    def _steps(self, loader: Loader, plan: Plan, total_steps: int, held_back: Loader, recorder: Recorder) -> Wish:
        """All that is left to do, or until the ranks agree to stop: then why."""
        stop = Wish.GO_ON
        while self._position.step < total_steps and not stop:
            stop = self._epoch(loader, plan, total_steps, recorder)
            if not stop:
                self._after_epoch(held_back, recorder, last=self._position.step >= total_steps)
        if not stop and self._evaluation is None:  # it had stopped behind its last step
            self._after_epoch(held_back, recorder, last=True)
        recorder.settle()
        recorder.close()
        return stop

    def _epoch(self, loader: Loader, plan: Plan, total_steps: int, recorder: Recorder) -> Wish:
        """What is left of the current epoch, or the steps left to do, whichever is less, or until the ranks agree to
        stop."""
        stop, first = Wish.GO_ON, self._position.epoch_samples // plan.step_samples
        steps = min(plan.steps_per_epoch - first, total_steps - self._position.step)
        recorder.timer.restart()
        for inputs, target, samples in itertools.islice(loader.epoch(self._position.epoch, first), steps):
            known = over_classes(self._loss, target)
            weights = None if known is None else known.of(target)
            batch = self._to_device(inputs), self._to_device(target), samples, weights
            self._one_step(batch, total_steps, recorder)
            first += 1
            if first == plan.steps_per_epoch:  # before anything is written: a ragged last batch is no place to resume
                self._position = replace(self._position, epoch=self._position.epoch + 1, epoch_samples=0)
            stop = self._look(recorder)
            if stop:
                break
        return stop

    def _look(self, recorder: Recorder) -> Wish:
        """Between two steps: compare, write a checkpoint where one is due, and say whether to stop."""
        step, agreed = self._position.step, self._watch.agreed()
        if agreed >= Wish.STOP_IN_TIME:
            return agreed
        if agreed == Wish.CHECKPOINT or due(self._settings.checkpoint.every_steps, step):
            self._write_checkpoint()
            recorder.timer.restart()
        return Wish.GO_ON

    def _one_step(self, batch: tuple[Tensor, Tensor, int, Tensor | None], total_steps: int, recorder: Recorder) -> None:
        inputs, target, samples, weights = batch
        recorder.timer.lap("input")
        position, settings = self._position, self._settings
        fixed = settings.training.global_batch is not None
        world_size = self._engine.world_size
        factor = rate_factor(position.step, total_steps, world_size, settings.schedule, fixed)
        rate = set_rates(self._optimizer, factor)
        self._seed()  # behind what the loader may have drawn
        recorder.timer.lap("other")
        loss_sum = self._step(inputs, target, samples, recorder.timer, weights)
        recorder.step(position.step, position.epoch, samples / world_size, loss_sum, rate)
        self._position = replace(
            position,
            step=position.step + 1,
            epoch_samples=position.epoch_samples + samples,
            samples=position.samples + samples,
        )

    def _seed(self) -> None:
        seed = step_seed(self._settings.training.seed, self._engine.rank, self._position.step)
        seed_all(seed)
        self._device.seed(seed)

    def _after_epoch(self, held_back: Loader, recorder: Recorder, last: bool) -> None:
        if last or due(self._settings.training.evaluate_every_epochs, self._position.epoch):
            with self._watch.request.busy():
                self._evaluation = self._evaluate(held_back)
            recorder.evaluation(self._evaluation)
        if self._position.epoch_samples == 0 and due(self._settings.checkpoint.every_epochs, self._position.epoch):
            self._write_checkpoint()

    def _evaluate(self, held_back: Loader) -> Evaluation:
        engine, begun = self._engine, time.perf_counter()
        average_buffers(self._model, engine)
        self._seed()
        batches: Iterator[tuple[Tensor, Tensor]] = (
            (self._to_device(inputs), self._to_device(target)) for inputs, target, _ in held_back.epoch(0)
        )
        precision = self._settings.device.precision
        metrics, samples = evaluate(self._model, batches, self._metrics, engine, self._device, precision)
        seconds = time.perf_counter() - begun
        return Evaluation(self._position.step, self._position.epoch, samples, seconds, metrics)

    def _agree(self, overflow: Tensor) -> None:
        self._engine.reduce_async(overflow, "max", "overflow").wait()

    def _to_device(self, batch: Tensor) -> Tensor:
        """Move a batch; inputs and targets that are numbers take the run's type and memory format."""
        settings = self._settings.device
        moved = batch.to(self._device.torch_device, non_blocking=True)
        if settings.precision == "fp64" and moved.is_floating_point():
            moved = moved.double()
        if settings.channels_last and moved.dim() == 4:
            moved = moved.contiguous(memory_format=torch.channels_last)
        return moved

    def _write_checkpoint(self) -> None:
        with self._watch.request.busy():
            average_buffers(self._model, self._engine)
            if self._engine.rank == 0:
                self._checkpoints.write(
                    self._position,
                    model=self._model.state_dict(),
                    optimizer=self._optimizer.state_dict(),
                    scaler=self._step.scaler_state(),
                    order=self._order,
                )

    def _resume(self, plan: Plan) -> None:
        content = newest(self._checkpoints, self._engine, must=self._settings.checkpoint.resume == "must")
        if content is None:
            return
        position = position_in(content, plan)
        if self._engine.rank == 0:
            for change in changes(content, plan):
                print(f"hpc-dl: {change}", flush=True)
        load(content, self._model, self._optimizer)
        self._step.load_scaler_state(content["scaler"])
        self._position = position


def _steps_left(epochs: int, position: Position, plan: Plan) -> int:
    """Steps to the end of the epochs; how many an epoch takes may have changed since the position was reached."""
    return max(0, epochs - position.epoch) * plan.steps_per_epoch - position.epoch_samples // plan.step_samples
