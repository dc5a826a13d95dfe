# SPDX-License-Identifier: Apache-2.0
"""The loop that hpc_dl brings: its own batches, schedule and evaluation in a run as any other loop has it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from hpc_dl.comm import compare
from hpc_dl.comm.buffers import average_buffers
from hpc_dl.comm.sync_batchnorm import together_of
from hpc_dl.data.base import Data
from hpc_dl.data.batch import Placement
from hpc_dl.data.sharding import Plan
from hpc_dl.data.workers import Loader, Part
from hpc_dl.errors import HpcDlError
from hpc_dl.run.loop import Loop
from hpc_dl.run.resume import Course
from hpc_dl.run.states import Stateful
from hpc_dl.session import Session
from hpc_dl.settings import Settings
from hpc_dl.training import rates
from hpc_dl.training.evaluation import evaluate
from hpc_dl.training.evaluations import Evaluations, Outcome
from hpc_dl.training.hooks import Hooks
from hpc_dl.training.modes import put_into_training
from hpc_dl.training.objective import Objective, objective
from hpc_dl.training.plans import held_back_plan, in_parts, training_plan
from hpc_dl.training.step import Placed, TrainingStep
from hpc_dl.training.tallies import Metric


class Trainer:
    """Trains a plain module with a plain optimizer and loss, on one rank or many.

    Args:
        model: Any module, on the device; `session.distribute(model, optimizer)` has been called.
        optimizer: Every parameter group learns at its own rate times the schedule's factor.
        loss: loss(output, target), the mean over the samples it is given, or a mean and its weight; or
            `Objective(function)` of a function(model, batch) (`objective.py`).
        session: Device, engine and exchange.
        settings: Read for training, schedule, precision, log and checkpoints.
        run_folder: Of the log and the checkpoints.
        metrics: Of the evaluation, by name; called as the loss or objective is.
        least_samples: With how many samples the model can be trained at a time.
        terms: Names of the objective's terms besides the loss. (`rehearsal.py` tells both.)
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss: Callable[..., Any] | Objective,
        session: Session,
        settings: Settings,
        run_folder: Path,
        metrics: Mapping[str, Metric],
        least_samples: int = 1,
        terms: Sequence[str] = (),
    ) -> None:
        if session.exchange is None:
            raise HpcDlError("Trainer", "the model is not distributed", "call session.distribute(model, optimizer)")
        self._model, self._optimizer, self._objective, self._metrics = model, optimizer, objective(loss), metrics
        self._session, self._settings, self._folder = session, settings, run_folder
        self._least_samples, self._terms = least_samples, terms
        self._place = Placement.of(session.device.torch_device, settings.device)
        self._hooks = Hooks(settings.task.hooks, model, optimizer, session)
        self._step = TrainingStep(model, optimizer, self._objective, session.exchange, session, settings)

    def fit(self, data: Data, startup_seconds: float = 0.0) -> Outcome:
        """Train to the end of the settings' epochs or steps, or until the ranks agree to stop.

        Args:
            data: Training and evaluation samples.
            startup_seconds: What the process had spent before; written to the log.
        """
        training, session = self._settings.training, self._session
        compare.data(session.engine, data)
        plan = training_plan(self._settings, len(data.train), session.engine, self._least_samples)
        together = together_of(self._model) is not None
        if together:
            self._step.stand_in = self._place(data.train.batch(np.zeros(1, dtype=np.int64)))
        put_into_training(self._model)
        cut = in_parts(training.accumulation, self._least_samples, session.world_size, together)
        batches = Loader(data.train, plan, self._settings.data.workers, cut=cut)
        held_back = Loader(data.evaluation, held_back_plan(plan, len(data.evaluation)), reseed=True)
        total_steps = training.steps or training.epochs * plan.steps_per_epoch
        self._rates = rates.build(self._optimizer, self._settings, session.world_size, total_steps)
        evaluations = Evaluations(
            self._settings,
            lambda: self._evaluate(held_back),
            [self._rates.after_evaluation, functools.partial(self._hooks.call, "on_evaluation")],
        )
        own: dict[str, Stateful] = {"model": self._model, "scaler": self._step.scaler, "evaluations": evaluations}
        loop = Loop(
            session,
            own | self._rates.states() | self._hooks.states(),
            self._settings,
            self._folder,
            Course.of(plan),
            epochs=None if training.steps else training.epochs,
            steps=training.steps,
            startup_seconds=startup_seconds,
        )
        loop.on_checkpoint = lambda: self._hooks.call("on_checkpoint", loop.position.step)
        with loop:
            evaluations.resume(loop)
            for epoch in loop.epochs():
                self._hooks.call("on_epoch", epoch)
                for parts, samples in loop.steps(functools.partial(batches.epoch, epoch)):
                    self._one_step(loop, parts, samples, plan)
                evaluations.after_epoch(loop)
        return Outcome("stopped" if loop.stopped else "finished", loop.position, evaluations.metrics, loop.stopped)

    def _one_step(self, loop: Loop, parts: Sequence[Part], samples: int, plan: Plan) -> None:
        placed = [Placed(self._place(part), count, self._objective.weight(part)) for part, count in parts]
        loop.lap("input")
        position = loop.position
        self._rates.before_step(position.step, loop.total_steps or 0)
        loop.lap("other")
        sums = self._step(placed, samples, loop.lap)
        terms = {name: sums.terms.get(name, 0.0) for name in self._terms or sums.terms}
        loop.took(sums.loss, samples / self._session.world_size, terms, samples)
        self._rates.after_step()
        if position.epoch_samples // plan.step_samples + 1 == plan.steps_per_epoch:
            self._rates.after_epoch()
        self._hooks.call("on_step", position.step)

    def _evaluate(self, held_back: Loader) -> tuple[dict[str, float], int]:
        session, model = self._session, self._hooks.evaluated(self._model)
        if model is not self._model:  # whose buffers are the mean over ranks already
            average_buffers(model, session.engine)
        parts = (part for parts, _ in held_back.epoch(0) for part in parts)
        precision = self._settings.device.precision
        return evaluate(
            model, parts, self._metrics, self._objective, session.engine, session.device, self._place, precision
        )
