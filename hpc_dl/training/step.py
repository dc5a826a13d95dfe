# SPDX-License-Identifier: Apache-2.0
"""One optimisation step: forward, backward with the exchange, clip, apply. The same calls for every engine."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hpc_dl.comm.optimizer_hooks import trained_parameters
from hpc_dl.comm.wrap import Exchange
from hpc_dl.run.timer import StepTimer
from hpc_dl.training.sync_batchnorm import together_of
from hpc_dl.training.weighing import mean_and_weight

if TYPE_CHECKING:
    from hpc_dl.devices.base import Device

Loss = Callable[[Tensor, Tensor], Tensor | tuple[Tensor, Tensor | float]]
"""Of output and target: the mean over the samples, or a mean and what it is a mean over (`weighing.py`)."""

ABSENT = 1e-30
"""Weight of a backward that has to run though it counts for nothing."""


class TrainingStep:
    """Applies one update to a model.

    Args:
        model: Any module; called with the inputs.
        optimizer: Distributed with the model.
        loss: Mean over the samples it is given, or a mean and its weight.
        exchange: The gradient exchange of this model.
        device: Gives autocast and the loss scaler.
        world_size: Number of ranks.
        precision: fp32, bf16, fp16 or fp64.
        accumulation: Micro-steps per update.
        clip_norm: Largest 2-norm of the averaged gradient, None for no clipping.
        agree: Reduces a one-element tensor over ranks to its maximum, in place: whether an fp16 gradient overflowed.
        least_samples: A micro-step has at least so many, since some layer needs them.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss: Loss,
        exchange: Exchange,
        device: Device,
        world_size: int,
        precision: str = "fp32",
        accumulation: int = 1,
        clip_norm: float | None = None,
        agree: Callable[[Tensor], None] | None = None,
        least_samples: int = 1,
    ) -> None:
        self._least_samples = least_samples
        self.stand_in: tuple[Tensor, Tensor] | None = None
        """One real sample, for steps in which this rank has none but has to take part: its loss does not count."""
        self._model, self._optimizer, self._loss = model, optimizer, loss
        self._exchange, self._device, self._world_size = exchange, device, world_size
        self._precision, self._accumulation, self._clip_norm = precision, accumulation, clip_norm
        self._scaler = device.scaler(precision, agree)
        self._together = together_of(model)
        self._parameters = trained_parameters(optimizer)

    def __call__(
        self, inputs: Tensor, target: Tensor, global_samples: int, timer: StepTimer, weights: Tensor | None = None
    ) -> Tensor:
        """Update the model.

        Args:
            inputs: This rank's samples along the first axis; possibly none.
            target: What the model should answer.
            global_samples: Samples of all ranks in this step.
            timer: Gets the laps.
            weights: What the loss of each sample is a mean over, (n,) on the host; None where it is the samples, or
                where the loss says it.

        Returns:
            This rank's part of (mean loss of the global batch) x global_samples, a scalar on the device.
        """
        self._optimizer.zero_grad(set_to_none=True)
        loss_sum, weighted = self._backward(inputs, target, global_samples, timer, weights)
        self._exchange.finish()  # where this rank had no samples, and so no backward
        if weighted:
            loss_sum = loss_sum * (self._world_size / self._exchange.weight_sum().to(loss_sum.device))
        timer.lap("exchange")
        if self._clip_norm is not None:
            self._scaler.unscale_(self._optimizer)
            nn.utils.clip_grad_norm_(self._parameters, self._clip_norm)
        # With fp16 an overflow on any rank lets all ranks skip the same step.
        self._scaler.step(self._optimizer)
        self._scaler.update()
        timer.lap("optimizer")
        return loss_sum

    def scaler_state(self) -> dict[str, Any]:
        """The loss scale of fp16, for a checkpoint; empty in other precisions."""
        return self._scaler.state_dict()

    def load_scaler_state(self, state: dict[str, Any]) -> None:
        """Go on with a checkpoint's loss scale, where both runs have one."""
        if state and self._scaler.is_enabled():
            self._scaler.load_state_dict(state)

    @property
    def skipped(self) -> bool:
        """Did the last step leave the parameters alone, because a gradient overflowed in fp16?"""
        return self._scaler.skipped

    def _backward(
        self, inputs: Tensor, target: Tensor, global_samples: int, timer: StepTimer, weights: Tensor | None
    ) -> tuple[Tensor, bool]:
        """Gradients of all micro-steps; the last one starts the exchange.

        The mean over ranks of (local mean x local samples x ranks / global samples) is the mean over the global batch,
        also where ranks hold different numbers of samples. Where the loss is a mean over something else, its weight
        takes the place of the samples, and the exchange divides by the sum of the weights.

        Returns:
            The sum of the losses of this rank's samples, and whether they were weighted.
        """
        self._exchange.lap = timer.lap
        dtype = torch.float64 if self._precision == "fp64" else torch.float32
        loss_sum = torch.zeros((), dtype=dtype, device=inputs.device)
        weighted, per_sample = False, self._world_size / global_samples
        micro_batches = self._micro_batches(inputs, target, global_samples, weights)
        for number, (some_inputs, some_target, some_weights) in enumerate(micro_batches, start=1):
            samples, last = len(some_inputs), number == len(micro_batches)
            with contextlib.ExitStack() as around:
                if not last:
                    around.enter_context(self._exchange.paused())
                if samples == 0 and self._together is not None:
                    around.enter_context(self._together.absent())
                    some_inputs, some_target = self.stand_in or (some_inputs, some_target)
                with self._device.autocast(self._precision):
                    output = self._model(some_inputs)
                    loss, weight = mean_and_weight(self._loss(output, some_target))
                timer.lap("forward")
                if some_weights is not None or weight is not None:
                    weighted = True
                    weight = float(weight if some_weights is None else some_weights.sum()) * bool(samples)
                    if weight == 0:  # the mean over nothing is no number
                        loss = output.sum() * 0
                    self._exchange.backward(self._scaler.scale(loss), self._least(weight) * per_sample)
                else:
                    weight = samples
                    self._scaler.scale(loss * (samples * per_sample)).backward()
                timer.lap("exchange" if last and self._world_size > 1 else "backward")
            loss_sum += loss.detach() * weight
        return loss_sum, weighted

    def _least(self, weight: float) -> float:
        """A backward without a weight is left out, unless ranks meet in it."""
        return weight or (ABSENT if self._together is not None else 0.0)

    def _micro_batches(
        self, inputs: Tensor, target: Tensor, global_samples: int, weights: Tensor | None
    ) -> list[tuple[Tensor, Tensor, Tensor | None]]:
        """The parts of a batch, none of them empty; where ranks meet within a part, as many as the fullest rank has."""
        samples = len(inputs) if self._together is None else -(-global_samples // self._world_size)
        parts = min(self._accumulation, samples // self._least_samples)
        if parts <= 1:
            return [(inputs, target, weights)][:parts]
        some_weights = [None] * parts if weights is None else weights.tensor_split(parts)
        return list(zip(inputs.tensor_split(parts), target.tensor_split(parts), some_weights, strict=True))
