# SPDX-License-Identifier: Apache-2.0
"""How long, in what portions, by which rule, and when that ends."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from hpc_dl.checks import check, require, require_known
from hpc_dl.errors import HpcDlError

OPTIMIZERS = ("sgd", "adam", "adamw", "lars", "lamb")
"""Rows of the table in `training/optimizers.py`, which needs torch."""


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
    find_largest_batch: bool = False
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
        if self.find_largest_batch and self.global_batch is not None:
            raise HpcDlError("training.find_largest_batch", "global_batch is given too", "leave one of the two out")
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
