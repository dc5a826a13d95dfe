# SPDX-License-Identifier: Apache-2.0
"""A callback for Lightning: `Trainer(callbacks=[Following(folder="runs/mine")])`.

Lightning keeps its checkpoints and its ranks. When these agree to stop, it writes `stopped.ckpt` into the run's folder
and ends training in its own way; `fit(ckpt_path=...)` goes on from it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback

from hpc_dl.run.follow import Follow
from hpc_dl.run.guest import guest


class Following(Callback):  # type: ignore[misc]
    """Follows `Trainer.fit`.

    Args:
        global_batch: Samples of a step over all ranks; by default what the training loader says.
        options: Those of `Follow`, such as folder and settings.
    """

    def __init__(self, global_batch: int | None = None, **options: Any) -> None:
        self._global_batch, self._options = global_batch, options
        self._run: Follow | None = None

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        model = trainer.strategy.model or pl_module
        optimizer = max(trainer.optimizers, key=lambda o: sum(p.numel() for g in o.param_groups for p in g["params"]))
        parts = trainer.accumulate_grad_batches * trainer.world_size
        batch = self._global_batch or trainer.train_dataloader.batch_size * parts
        self._session = guest(model)
        fixed: dict[str, Any] = {
            "state": {},
            "resume": "never",
            "on_stop": lambda: setattr(trainer, "should_stop", True),
        }
        self._run = Follow(self._session, model, optimizer, global_batch=batch, **(fixed | self._options))

    # On one device Lightning does not call the module: it has steps and hooks of its own.

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        assert self._run is not None
        self._run.seams.forward_begins()

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: Any) -> None:
        assert self._run is not None
        self._run.seams.lap("forward")

    def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
        assert self._run is not None
        self._run.seams.lap("backward")

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        assert self._run is not None
        if self._run.stopped:
            trainer.save_checkpoint(Path(self._run.folder) / "stopped.ckpt")
        elif outputs is not None:
            loss = outputs["loss"] if isinstance(outputs, dict) else outputs
            self._run.record(loss * trainer.accumulate_grad_batches)  # Lightning has divided it

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self._session.close()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        if self._run is not None:
            self._session.failed = True
            self._run.abandon()
