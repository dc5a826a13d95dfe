# SPDX-License-Identifier: Apache-2.0
"""A callback for the Trainer of Hugging Face: `Trainer(callbacks=[Following(folder="runs/mine")])`.

The Trainer keeps its checkpoints and its ranks. When these agree to stop, it writes one and ends training;
`train(resume_from_checkpoint=True)` goes on. It is followed from its second step on; of its loss it tells callbacks
only now and then a rounded mean, so the log has none.
"""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.optim import Optimizer
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hpc_dl.run.follow import Follow
from hpc_dl.run.guest import guest
from hpc_dl.run.script import Discovery


class Following(TrainerCallback):  # type: ignore[misc]
    """Follows `Trainer.train`.

    Args:
        options: Those of `Follow`, such as folder and settings.
    """

    def __init__(self, **options: Any) -> None:
        self._options = options
        self._run: Follow | None = None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        batch = args.train_batch_size * args.gradient_accumulation_steps * args.world_size

        def found(model: nn.Module, optimizer: Optimizer) -> None:
            self._session = guest(model)
            fixed: dict[str, Any] = {"state": {}, "resume": "never", "on_stop": lambda: None}
            self._run = Follow(self._session, model, optimizer, global_batch=batch, **(fixed | self._options))

        self._discovery = Discovery(found)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self._run is not None and self._run.stopped:
            control.should_training_stop = control.should_save = True

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics: Any = None, **_: Any
    ) -> None:
        if self._run is not None and not self._run.stopped:
            numbers = {name: float(value) for name, value in (metrics or {}).items() if isinstance(value, int | float)}
            self._run.log_evaluation(numbers, 0)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._discovery.close()
        if self._run is not None:
            self._session.close()
