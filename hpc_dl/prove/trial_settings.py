# SPDX-License-Identifier: Apache-2.0
"""A few small steps in float64 in place of the user's training: the settings of a trial, and what they leave out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hpc_dl.errors import HpcDlError
from hpc_dl.settings import BestSettings, CheckpointSettings, DeviceSettings, ExchangeSettings, LogSettings, Settings

WITNESS = "hpc_dl.prove.witness"
RANK_SAMPLES = 4
"""Samples of a rank in a micro-batch, at the most."""
WHOLE_BATCHES = 2
"""In an epoch; a ragged one follows."""
EVALUATION_SAMPLES = 13
"""Not to be shared evenly between ranks."""
LEAST_STEPS = 3


@dataclass(frozen=True)
class Small:
    """The size of all trials of a proof."""

    settings: Settings
    """The user's."""
    steps: int
    global_batch: int
    samples: int
    """Training samples; of a smaller data set, all."""

    @property
    def cut(self) -> int:
        """The step after which a trial is resumed: within an epoch where the data set is not smaller."""
        middle = self.steps // 2 + 1
        return middle if middle % (WHOLE_BATCHES + 1) else middle - 1

    def notes(self) -> list[str]:
        """How trials differ from the training that was asked for."""
        training = self.settings.training
        asked = training.global_batch or f"{training.local_batch} per rank"
        return [
            f"trials of {self.steps} steps with a global batch of {self.global_batch} (asked for: {asked}) on at most "
            f"{self.samples} training samples, so that the last batch of an epoch is ragged",
            "float64 on the CPU, without compiler, compression and loader processes; warm-up of the rate is at most a "
            "step, and the rate does not grow with the world size",
        ]


def small(settings: Settings, ranks: Sequence[int], steps: int) -> Small:
    """The size of trials on so many ranks.

    Raises:
        HpcDlError: Too few steps to be cut, or a global batch that some rank has no sample of.
    """
    if steps < LEAST_STEPS:
        raise HpcDlError(f"--steps {steps}", "too few to cut a training within an epoch", f"give {LEAST_STEPS} or more")
    training = settings.training
    most = RANK_SAMPLES * max(ranks) * training.accumulation
    batch = min(most, training.global_batch or (training.local_batch or 1) * max(ranks))
    if batch < max(ranks):
        raise HpcDlError(
            f"training.global_batch = {batch}", f"{max(ranks)} ranks, so some have no sample", "prove it on fewer ranks"
        )
    return Small(settings, steps, batch, WHOLE_BATCHES * batch + batch // 2 + 1)


def trial(small: Small, folder: str, *, engine: str, resume: bool, metrics: bool, plain: bool, sync: bool) -> Settings:
    """The settings of one trial.

    Args:
        small: The size.
        folder: Of the trial.
        engine: Of the exchange.
        resume: From the checkpoint that lies in the folder.
        metrics: Evaluate with the user's metrics.
        plain: Without dropout.
        sync: Normalise over the global batch. Micro-batches are other samples on another number of ranks, so there
            are none then.
    """
    asked = small.settings
    task, data, training = asked.task, asked.data, asked.training
    data = replace(
        data,
        source=f"{WITNESS}:source",
        options={
            "source": data.source,
            "options": data.options,
            "samples": small.samples,
            "evaluation_samples": EVALUATION_SAMPLES,
        },
        workers=0,
    )
    if plain:
        options = {"model": task.model, "options": task.model_options}
        task = replace(task, model=f"{WITNESS}:without_dropout", model_options=options)
    hooks = {**task.hooks, f"{WITNESS}:Witness": {"seed": training.seed, "folder": folder}}
    sync = sync or asked.device.sync_batchnorm
    return replace(
        asked,
        task=replace(task, hooks=hooks, on_finish="", metrics=task.metrics if metrics else []),
        data=data,
        training=replace(
            training,
            steps=small.steps,
            global_batch=small.global_batch,
            local_batch=None,
            find_largest_batch=False,
            evaluate_every_epochs=1,
            accumulation=1 if sync else training.accumulation,
        ),
        schedule=replace(asked.schedule, scaling="none", warmup_steps=min(1, asked.schedule.warmup_steps)),
        exchange=ExchangeSettings(engine=engine, bucket_megabytes=asked.exchange.bucket_megabytes),  # type: ignore[arg-type]
        device=DeviceSettings(
            name="cpu", precision="fp64", channels_last=asked.device.channels_last, sync_batchnorm=sync, threads=1
        ),
        log=LogSettings(window_steps=1, warmup_steps=0, progress="none"),
        checkpoint=CheckpointSettings(
            every_steps=small.cut, every_minutes=0, keep=small.steps, resume="must" if resume else "never"
        ),
        best=replace(asked.best, patience=0) if metrics else BestSettings(),
    )
