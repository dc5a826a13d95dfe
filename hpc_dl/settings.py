# SPDX-License-Identifier: Apache-2.0
"""Every setting of a training run: frozen dataclasses, checked when built, a docstring under each field.

Flags and TOML files are derived from these classes (`arguments.py`); this module knows neither. Units are in the names.
Choices stand here as literals, so that flags list them without torch; `tests/test_choices.py` holds them to the tables
of the rooms that make something of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from hpc_dl.checks import check, require, require_known
from hpc_dl.errors import HpcDlError

OPTIMIZERS = ("sgd", "adam", "adamw", "lars", "lamb")
"""Rows of the table in `training/optimizers.py`, which needs torch."""


@dataclass(frozen=True)
class TaskSettings:
    """What is trained: a plain torch module and its loss, named by import path."""

    model: str = "hpc_dl.models.mnist_cnn:MnistCnn"
    """Import path of a class or function that returns a torch.nn.Module."""
    model_options: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments for the model."""
    loss: str = "torch.nn.functional:nll_loss"
    """Import path of loss(output, target) -> mean over the batch, or (mean, weight) where it is a mean over something
    else, or of a class whose instance is called so."""
    objective: str = ""
    """Import path of objective(model, batch), for batches that are no pairs (input, target) and for models that are
    called otherwise; it returns what a loss does, or a dictionary of named terms. Takes the place of task.loss."""
    metrics: list[str] | None = None
    """Metrics of the evaluation: names from hpc_dl.training.metrics, or import paths of functions or classes, called
    as the loss or the objective is. By default accuracy, and with an objective what it returns itself."""
    hooks: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Import paths of what is called in the loop (docs/train.md), and options for each, such as
    {"hpc_dl.training.hooks:Ema": {"decay": 0.999}}."""
    after: str = ""
    """Import path of a function called once after training as after(model, session, run_folder); empty for none."""

    def __post_init__(self) -> None:
        check(self, import_paths=("model", "loss", *(name for name in ("objective", "after") if getattr(self, name))))


@dataclass(frozen=True)
class DataSettings:
    """Where the samples come from."""

    source: str = "hpc_dl.data.digits:load"
    """Import path of a function that returns hpc_dl.data.Data (training and evaluation samples)."""
    options: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments for the source, such as the folder of the files."""
    workers: int = 0
    """Loader processes per rank for data that is not in memory; 0 loads in the training process."""
    shuffle: bool = True
    """A new order every epoch, the same on all ranks."""

    def __post_init__(self) -> None:
        check(self, not_negative=("workers",), import_paths=("source",))


@dataclass(frozen=True)
class TrainingSettings:
    """How long and in what portions."""

    epochs: int = 1
    """Passes over the training samples; ignored where steps is given."""
    steps: int | None = None
    """Optimizer steps in all, over as many epochs as it takes."""
    local_batch: int | None = 64
    """Samples per rank and step (weak scaling); null where global_batch is given."""
    global_batch: int | None = None
    """Samples per step over all ranks (strong scaling); overrides local_batch."""
    largest_batch: bool = False
    """Take the largest local batch that every rank's device holds (cuda, xpu), found at the start by trying."""
    accumulation: int = 1
    """Micro-steps per optimizer step; the batch of a rank is cut into so many parts, exchanged once."""
    drop_last: bool = False
    """Leave out the last batch of an epoch where it is smaller than the others."""
    clip_norm: float | None = None
    """Largest 2-norm of the averaged gradient; null for no clipping."""
    evaluate_every_epochs: int = 1
    """Evaluate after so many epochs and at the end; 0 only at the end."""
    seed: int = 0
    """Seed of the initial weights and of the order of samples (all ranks), and of dropout and the like (per rank)."""

    def __post_init__(self) -> None:
        sizes = ("epochs", "steps", "local_batch", "global_batch", "accumulation", "clip_norm")
        check(self, positive=sizes, not_negative=("evaluate_every_epochs",))
        if self.largest_batch and self.global_batch is not None:
            raise HpcDlError("training.largest_batch", "global_batch is given too", "leave one of the two out")
        if self.local_batch is None and self.global_batch is None:
            raise HpcDlError("training", "neither local_batch nor global_batch is given", "give one of the two")


@dataclass(frozen=True)
class OptimizerSettings:
    """The update rule."""

    name: str = "sgd"
    """sgd, adam, adamw, lars, lamb, or the import path of another one, called as name(groups, lr=rate, **options)."""
    learning_rate: float = 0.01
    """Rate for one rank; schedule.scaling says what becomes of it on more."""
    momentum: float = 0.9
    """Momentum of sgd and lars."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the running means of adam, adamw and lamb."""
    weight_decay: float = 0.0
    """Decay of weights; biases and one-dimensional (normalisation) parameters are left out."""
    options: dict[str, Any] = field(default_factory=dict)
    """Further keyword arguments of the optimizer, such as eps, nesterov or fused; they count before other settings."""

    def __post_init__(self) -> None:
        require_known("optimizer.name", self.name, OPTIMIZERS)
        check(self, positive=("learning_rate",), not_negative=("momentum", "weight_decay"))
        require(all(0 <= beta < 1 for beta in self.betas), "optimizer.betas", self.betas, "two numbers in [0, 1)")


@dataclass(frozen=True)
class ScheduleSettings:
    """The learning rate as a function of the step."""

    scaling: Literal["auto", "linear", "sqrt", "none"] = "auto"
    """The rate grows with the world size linearly, with its square root, or not at all; auto is linear where the local
    batch is given (the global batch grows with the ranks), and none where the global batch is."""
    warmup_steps: int = 0
    """Steps over which the rate climbs: from the one-rank value to the scaled one, or from 0 where both are one."""
    decay: Literal["none", "cosine", "step", "polynomial"] = "none"
    """How the rate falls after warm-up."""
    decay_every_steps: int = 1000
    """decay = "step": steps between two falls."""
    decay_factor: float = 0.1
    """decay = "step": factor of each fall."""
    power: float = 1.0
    """decay = "polynomial": 1 is a straight line to final_fraction."""
    final_fraction: float = 0.0
    """decay = "cosine" or "polynomial": fraction of the scaled rate left at the last step."""
    name: str = ""
    """Import path of a scheduler, such as torch.optim.lr_scheduler:OneCycleLR, in place of warm-up and decay; called as
    name(optimizer, **options), with total_steps where it takes that. It begins with the scaled rate."""
    options: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the scheduler."""
    per: Literal["step", "epoch"] = "step"
    """When the scheduler goes on; one that goes by a metric does so after each evaluation."""
    metric: str = ""
    """The metric that ReduceLROnPlateau goes by."""

    def __post_init__(self) -> None:
        check(self, positive=("decay_every_steps", "decay_factor", "power"), not_negative=("warmup_steps",))
        require(0 <= self.final_fraction <= 1, "schedule.final_fraction", self.final_fraction, "between 0 and 1")
        if self.name:
            check(self, import_paths=("name",))
            if self.warmup_steps or self.decay != "none":
                raise HpcDlError(
                    f"schedule.name = {self.name!r}",
                    "warmup_steps or decay is given, too",
                    "leave them out: the scheduler sets the rate",
                )


@dataclass(frozen=True)
class BestSettings:
    """Which evaluation is the best, and what follows from it."""

    metric: str = ""
    """A metric of the run, such as accuracy: where it is best, checkpoints/best.pt is written; empty for none."""
    goal: Literal["max", "min"] = "max"
    """Which value of it is best."""
    patience: int = 0
    """Training ends after so many evaluations that were no better than the best; 0 for never."""

    def __post_init__(self) -> None:
        check(self, not_negative=("patience",))
        if self.patience and not self.metric:
            raise HpcDlError("best.patience", "no metric is named", "name one in best.metric")


@dataclass(frozen=True)
class ExchangeSettings:
    """How ranks average their gradients."""

    engine: Literal["auto", "horovod", "torch", "single"] = "auto"
    """Horovod, torch.distributed, or one process; auto picks and says why."""
    bucket_megabytes: float = 25.0
    """Gradients are summed in buckets of about this size while backward still runs."""
    compression: Literal["none", "fp16", "bf16"] = "none"
    """Type of the gradients on the wire."""
    adasum: bool = False
    """Horovod's adaptive sum in place of the mean."""
    host_staging: bool = False
    """Slow: copy gradients through host memory for an engine that cannot reach the device."""
    timeout_seconds: float = 1800.0
    """How long a collective may wait for the other ranks. Horovod's own variable, HOROVOD_STALL_SHUTDOWN_TIME_SECONDS,
    wins over it where it is set."""
    check_every_steps: int | None = None
    """Compare checksums of parameters and buffers over ranks every so many steps; 0 for never. By default
    parameters only, after 1, 2, 4, ... steps and from 1,024 on every 1,024."""

    def __post_init__(self) -> None:
        check(self, positive=("bucket_megabytes", "timeout_seconds"), not_negative=("check_every_steps",))


@dataclass(frozen=True)
class DeviceSettings:
    """What a rank computes on, and in which precision."""

    name: Literal["auto", "cpu", "cuda", "xpu"] = "auto"
    """auto picks and says why."""
    precision: Literal["fp32", "bf16", "fp16", "fp64"] = "fp32"
    """fp32 and fp64: the type of everything; bf16 and fp16: autocast over fp32 weights."""
    matmul_precision: Literal["highest", "high", "medium"] = "highest"
    """Float32 matrix products on tensor cores: highest is plain fp32, high is TF32."""
    channels_last: bool = False
    """Keep images and convolution weights with channels innermost."""
    compile: bool = False
    """Run the model through torch.compile. All gradients then come at the end of backward: the exchange hides less."""
    ipex: bool = False
    """Optimise the model with Intel's extension for PyTorch, where it is installed."""
    sync_batchnorm: bool = False
    """Batch normalisation over the global batch."""
    threads: int | None = None
    """CPU threads per rank; null takes the rank's share of the cores it may run on."""

    def __post_init__(self) -> None:
        check(self, positive=("threads",))


@dataclass(frozen=True)
class LogSettings:
    """What is written while training."""

    folder: str | None = None
    """The run's folder; null makes runs/NAME-RANKS-TIME."""
    window_steps: int = 10
    """Steps per line of the log."""
    warmup_steps: int = 10
    """Steps at the start that are marked and left out of every statement."""
    progress: Literal["auto", "bar", "lines", "none"] = "auto"
    """A bar on a terminal, a line per window in a batch log."""

    def __post_init__(self) -> None:
        check(self, positive=("window_steps",), not_negative=("warmup_steps",))


@dataclass(frozen=True)
class CheckpointSettings:
    """What survives the end of the job."""

    every_epochs: int = 0
    """Write a checkpoint after so many epochs; 0 for none."""
    every_steps: int = 0
    """Write a checkpoint after so many steps; 0 for none."""
    every_minutes: float = 15.0
    """Write a checkpoint after so many minutes; 0 for none."""
    stop_seconds: float = 60.0
    """Stop, with a checkpoint, so long before the scheduler ends the job (HPC_DL_JOB_END), or earlier by the time that
    agreeing on it takes. What is left is for writing the checkpoint and the report."""
    keep: int = 2
    """How many checkpoints stay."""
    last: bool = True
    """Write one at the end of training."""
    resume: Literal["never", "auto", "must"] = "never"
    """auto continues from the newest whole checkpoint of the run's folder where there is one; must insists."""

    def __post_init__(self) -> None:
        times = ("every_epochs", "every_steps", "every_minutes", "stop_seconds")
        check(self, positive=("keep",), not_negative=times)


@dataclass(frozen=True)
class Settings:
    """One training run."""

    name: str = "run"
    """Label of the run in logs and reports."""
    task: TaskSettings = TaskSettings()
    data: DataSettings = DataSettings()
    training: TrainingSettings = TrainingSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    exchange: ExchangeSettings = ExchangeSettings()
    device: DeviceSettings = DeviceSettings()
    log: LogSettings = LogSettings()
    checkpoint: CheckpointSettings = CheckpointSettings()
    best: BestSettings = BestSettings()
