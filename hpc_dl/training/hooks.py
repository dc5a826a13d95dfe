# SPDX-License-Identifier: Apache-2.0
"""What a user adds to the Trainer's loop: objects with any of the methods below, called on all ranks.

`task.hooks` names what makes them, a class or function called as make(model, optimizer, session, **options):

- `on_epoch(epoch)` before the first step of an epoch, also of one that is resumed: freeze layers, change the data;
- `on_step(step)` after every step: average weights, adapt something;
- `on_evaluation(step, metrics)` with the metrics of all ranks' samples;
- `on_checkpoint(step)` before a checkpoint is written.

What has `state_dict` and `load_state_dict` is in the checkpoint. What has an attribute `evaluated_model` has that one
evaluated in place of the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from hpc_dl.errors import HpcDlError
from hpc_dl.run.states import Stateful
from hpc_dl.session import Session
from hpc_dl.training.imports import call_path
from hpc_dl.training.mismatch import told

METHODS = ("on_epoch", "on_step", "on_evaluation", "on_checkpoint")


class Hooks:
    """All hooks of a run, by the path that made them.

    Args:
        paths: Import paths, and options for each.
        model, optimizer, session: As the Trainer has them.

    Raises:
        HpcDlError: A path leads to nothing, or to what has none of the methods.
    """

    def __init__(
        self,
        paths: Mapping[str, Mapping[str, Any]],
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        session: Session,
    ) -> None:
        self._hooks = {
            path: call_path(path, "task.hooks", options, model, optimizer, session) for path, options in paths.items()
        }
        for path, hook in self._hooks.items():
            if not any(hasattr(hook, method) for method in METHODS):
                raise HpcDlError(
                    f"task.hooks: {path}", f"it made {type(hook).__name__}", f"give it one of {', '.join(METHODS)}"
                )

    def call(self, method: str, *arguments: Any) -> None:
        """Call a method of all hooks that have it.

        Raises:
            HpcDlError: One failed; names it.
        """
        for path, hook in self._hooks.items():
            if not hasattr(hook, method):
                continue
            try:
                getattr(hook, method)(*arguments)
            except HpcDlError:
                raise
            except Exception as error:
                what = f"{type(error).__name__}: {told(error)}"
                raise HpcDlError(f"{method} of the hook {path}", what, "correct the hook") from error

    def states(self) -> dict[str, Stateful]:
        """What goes into checkpoints, by path."""
        return {path: hook for path, hook in self._hooks.items() if hasattr(hook, "state_dict")}

    def evaluated(self, model: nn.Module) -> nn.Module:
        """What is evaluated in place of a model."""
        models = (getattr(hook, "evaluated_model", None) for hook in self._hooks.values())
        return next((found for found in models if found is not None), model)


class Ema:
    """An exponential moving average of the weights, which is evaluated in place of the model; buffers as they are.

    Args:
        model, optimizer, session: As a hook gets them.
        decay: Of what was before, per step.
    """

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, session: Session, decay: float = 0.999
    ) -> None:
        self._model = model
        self._average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))
        self.evaluated_model: nn.Module = self._average.module

    def on_step(self, step: int) -> None:
        """Take the weights in."""
        self._average.update_parameters(self._model)

    def on_checkpoint(self, step: int) -> None:
        """Take over the buffers, which have just been averaged over ranks."""
        for mine, theirs in zip(self.evaluated_model.buffers(), self._model.buffers(), strict=True):
            mine.copy_(theirs)

    def state_dict(self) -> dict[str, Any]:
        return self._average.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._average.load_state_dict(state)
