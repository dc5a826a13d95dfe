# SPDX-License-Identifier: Apache-2.0
"""What is trained, and on which samples."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hpc_dl.checks import check


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
    on_finish: str = ""
    """Import path of a function called once after training as after(model, session, run_folder); empty for none."""

    def __post_init__(self) -> None:
        given = (name for name in ("objective", "on_finish") if getattr(self, name))
        check(self, import_paths=("model", "loss", *given))

    @property
    def metric_names(self) -> list[str]:
        """The metrics, those by default included."""
        if self.metrics is not None:
            return self.metrics
        return [] if self.objective else ["accuracy"]


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
