# SPDX-License-Identifier: Apache-2.0
"""A training run: builds every part once, in order, and starts the trainer. The page to read first."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import nn

from hpc_dl.comm import compare
from hpc_dl.comm.flat import broadcast_tensors
from hpc_dl.comm.sync_batchnorm import convert
from hpc_dl.data.base import Data
from hpc_dl.data.batch import Placement
from hpc_dl.data.seeds import seed_all
from hpc_dl.devices import ipex
from hpc_dl.errors import HpcDlError
from hpc_dl.run.folder import run_folder
from hpc_dl.session import Session, start
from hpc_dl.settings import Settings
from hpc_dl.training import metrics, optimizers
from hpc_dl.training.evaluations import Outcome
from hpc_dl.training.imports import call_path, import_object
from hpc_dl.training.largest_batch import largest_local_batch
from hpc_dl.training.objective import Objective, PairObjective
from hpc_dl.training.plans import training_plan
from hpc_dl.training.rehearsal import LOSS_SAMPLES, Rehearsal, Rehearsed
from hpc_dl.training.tallies import Metric
from hpc_dl.training.trainer import Trainer


@dataclass(frozen=True)
class Task:
    """What is trained, built from its import paths."""

    model: nn.Module
    objective: Objective
    data: Data
    metrics: Mapping[str, Metric]
    place: Placement
    rehearsed: Rehearsed


def train(settings: Settings, environ: Mapping[str, str], started_seconds: float | None = None) -> Outcome:
    """Train on this rank, together with all others.

    Args:
        settings: Everything about the run.
        environ: The process environment: rank, job, run folder.
        started_seconds: `time.time()` when the process began, for the start-up time in the log.

    Raises:
        HpcDlError: On one process; where several run, the job ends on all of them.
    """
    started_seconds = time.time() if started_seconds is None else started_seconds
    with start(settings.exchange, settings.device, environ) as session:
        compare.settings(session.engine, settings)
        folder = run_folder(settings, session)
        task = build_task(settings, session)
        compare.data(session.engine, task.data)
        if settings.training.find_largest_batch:
            settings = _with_largest_batch(settings, session, task)
        training_plan(
            settings, len(task.data.train), session.engine, task.rehearsed.least_samples
        )  # refuses before the log
        model = convert(task.model, session.engine) if settings.device.sync_batchnorm else task.model
        optimizer = optimizers.build(model, settings.optimizer)
        if settings.device.ipex:
            broadcast_tensors(session.engine, [*model.parameters(), *model.buffers()])
            model, optimizer = ipex.optimize(model, optimizer, settings.device.precision)
        task = replace(task, model=model)
        session.distribute(task.model, optimizer, settings.exchange)
        if session.rank == 0 and _in_parts(settings, session) and task.rehearsed.doubt:
            print(f"hpc-dl: warning: {_loss_told(settings, task)}", file=sys.stderr)
        if settings.device.compile:
            task.model.compile()  # in place: the names in checkpoints stay
        trainer = Trainer(
            task.model,
            optimizer,
            task.objective,
            session,
            settings,
            folder,
            task.metrics,
            task.rehearsed.least_samples,
            task.rehearsed.terms,
        )
        outcome = trainer.fit(task.data, startup_seconds=time.time() - started_seconds)
        if settings.task.on_finish and outcome.reason == "finished":
            import_object(settings.task.on_finish, "task.on_finish")(task.model, session, folder)
        if session.rank == 0:
            print(f"run folder: {folder}", flush=True)
        return outcome


def _in_parts(settings: Settings, session: Session) -> bool:
    """Is a batch taken apart, over ranks or in time?"""
    return session.world_size * settings.training.accumulation > 1


def _loss_told(settings: Settings, task: Task) -> str:
    setting, path = task.objective.setting, settings.task.objective or settings.task.loss
    return (
        f"{setting} = {path!r}: {task.rehearsed.doubt}. It is no mean over samples, so gradients depend on the number "
        "of ranks and on training.accumulation. Where it is a mean over tokens or pixels, return (mean, their number); "
        "where it compares the samples of a batch with each other, each rank compares its own (docs/train.md)"
    )


def build_task(settings: Settings, session: Session) -> Task:
    """Model, loss, data and metrics; all ranks start from the same seed."""
    device = settings.device
    torch.set_float32_matmul_precision(device.matmul_precision)
    torch.manual_seed(settings.training.seed)
    seed_all(settings.training.seed)  # NumPy and Python, too: data and models may draw from them
    data = call_path(settings.data.source, "data.source", settings.data.options)
    if not isinstance(data, Data):
        raise HpcDlError(
            f"data.source = {settings.data.source!r}",
            f"it returned {type(data).__name__}",
            "return hpc_dl.data.base.Data(train, evaluation)",
        )
    model = call_path(settings.task.model, "task.model", settings.task.model_options)
    if not isinstance(model, nn.Module):
        raise HpcDlError(
            f"task.model = {settings.task.model!r}", f"it made {type(model).__name__}", "name a torch.nn.Module"
        )
    dtype = torch.float64 if device.precision == "fp64" else None
    model = model.to(session.device.torch_device, dtype)
    if device.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    objective, found = _objective_and_metrics(settings)
    for metric in found.values():
        if isinstance(metric, nn.Module):
            metric.to(session.device.torch_device)
    place = Placement.of(session.device.torch_device, device)
    training = settings.training
    local_batch = training.global_batch // session.world_size if training.global_batch else training.local_batch
    at_a_time = max(1, (local_batch or LOSS_SAMPLES) // training.accumulation)
    autocast = functools.partial(session.device.autocast, device.precision)
    rehearsal = Rehearsal(data, model, objective, place, autocast)
    rehearsed = rehearsal.training(at_a_time)
    if settings.task.objective and not found:
        found = rehearsal.own_metrics(rehearsed.terms)
    else:
        rehearsal.evaluation(found)
    if device.sync_batchnorm and session.world_size > 1:
        rehearsed = rehearsed._replace(least_samples=1)
    return Task(model, objective, data, found, place, rehearsed)


def _objective_and_metrics(settings: Settings) -> tuple[Objective, dict[str, Metric]]:
    task = settings.task
    found = metrics.find(task.metric_names)
    if task.objective:
        return Objective(_made(task.objective, "task.objective")), found
    return PairObjective(_made(task.loss, "task.loss")), found


def _made(path: str, setting: str) -> Callable[..., object]:
    """The function that a path names, or what its class makes."""
    named = import_object(path, setting)
    function: Callable[..., object] = named() if isinstance(named, type) else named
    return function


def _with_largest_batch(settings: Settings, session: Session, task: Task) -> Settings:
    """The settings with the largest local batch that fits; of a batch in parts, each part fits."""
    training = settings.training
    found = largest_local_batch(
        task.model,
        lambda: optimizers.build(task.model, settings.optimizer),
        task.objective,
        task.data.train,
        session.device,
        session.engine,
        task.place,
        settings.device.precision,
    )
    return replace(settings, training=replace(training, local_batch=found * training.accumulation))
