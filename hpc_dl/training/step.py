# SPDX-License-Identifier: Apache-2.0
"""One optimisation step: forward, backward with the exchange, clip, apply. The same calls for every engine."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from hpc_dl.comm.optimizer_hooks import trained_parameters
from hpc_dl.comm.sync_batchnorm import together_of
from hpc_dl.comm.wrap import Exchange
from hpc_dl.data.batch import Batch
from hpc_dl.session import Session
from hpc_dl.settings import Settings
from hpc_dl.training.objective import Found, Objective, found

if TYPE_CHECKING:
    from hpc_dl.devices.scaler import LossScaler

Lap = Callable[[str], None]
ABSENT = 1e-30
"""Weight of a backward that has to run though it counts for nothing."""


class Placed(NamedTuple):
    """Samples of this rank that go through the model together, on the device."""

    batch: Batch
    samples: int
    weight: Tensor | None = None
    """What the loss is a mean over, where that is known before."""


class StepSums(NamedTuple):
    """This rank's part of (mean of the global batch) x (its samples), scalars on the device."""

    loss: Tensor
    terms: Mapping[str, Tensor]

    def times(self, factor: Tensor) -> StepSums:
        return StepSums(self.loss * factor, {name: term * factor for name, term in self.terms.items()})


class TrainingStep:
    """Applies one update to a model.

    Args:
        model: Any module.
        optimizer: Distributed with the model.
        objective: What is minimised.
        exchange: The gradient exchange of this model.
        session: Its device gives autocast and the loss scaler.
        settings: Read for precision and clipping.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        objective: Objective,
        exchange: Exchange,
        session: Session,
        settings: Settings,
    ) -> None:
        self.stand_in: Batch | None = None
        """One real sample, for parts in which this rank has none but has to take part: its loss does not count."""
        self._model, self._optimizer, self._objective = model, optimizer, objective
        self._exchange, self._device, self._world_size = exchange, session.device, session.world_size
        self._precision, self._clip_norm = settings.device.precision, settings.training.clip_norm

        def agree(overflow: Tensor) -> None:
            session.engine.reduce_async(overflow, "max", "overflow").wait()

        self.scaler: LossScaler = session.device.scaler(self._precision, agree if self._world_size > 1 else None)
        """Of the loss, for fp16; part of a checkpoint."""
        self._together = together_of(model)
        self._parameters = trained_parameters(optimizer)

    def __call__(self, parts: Sequence[Placed], samples: int, lap: Lap) -> StepSums:
        """Update the model.

        Args:
            parts: This rank's micro-batches; possibly none.
            samples: Of all ranks in this step.
            lap: Called at the end of each phase.
        """
        self._optimizer.zero_grad(set_to_none=True)
        sums, weighted = self._backward(parts, samples, lap)
        self._exchange.finish()  # where this rank had no samples, and so no backward
        if weighted:
            sums = sums.times(self._world_size / self._exchange.weight_sum().to(sums.loss.device))
        lap("exchange")
        if self._clip_norm is not None:
            self.scaler.unscale_(self._optimizer)
            nn.utils.clip_grad_norm_(self._parameters, self._clip_norm)
        # With fp16 an overflow on any rank lets all ranks skip the same step.
        self.scaler.step(self._optimizer)
        self.scaler.update()
        lap("optimizer")
        return sums

    @property
    def skipped(self) -> bool:
        """Did the last step leave the parameters alone, because a gradient overflowed in fp16?"""
        return self.scaler.skipped

    def _backward(self, parts: Sequence[Placed], samples: int, lap: Lap) -> tuple[StepSums, bool]:
        """Gradients of all micro-steps; the last one starts the exchange.

        The mean over ranks of (local mean x local samples x ranks / global samples) is the mean over the global batch,
        also where ranks hold different numbers of samples. Where the loss is a mean over something else, its weight
        takes the place of the samples, and the exchange divides by the sum of the weights.

        Returns:
            The sums, and whether the loss was weighted.
        """
        self._exchange.lap = lap
        dtype = torch.float64 if self._precision == "fp64" else torch.float32
        loss_sum = torch.zeros((), dtype=dtype, device=self._device.torch_device)
        terms: dict[str, Tensor] = {}
        weighted, per_sample = False, self._world_size / samples
        for number, part in enumerate(parts, start=1):
            last = number == len(parts)
            with contextlib.nullcontext() if last else self._exchange.paused():
                result, weight = self._forward(part)
                lap("forward")
                if weight is None:
                    weight = float(part.samples)
                    self.scaler.scale(result.loss * (weight * per_sample)).backward()
                else:
                    weighted = True
                    self._exchange.backward(self.scaler.scale(result.loss), self._least(weight) * per_sample)
                lap("exchange" if last and self._world_size > 1 else "backward")
            loss_sum += result.loss.detach() * weight
            for name, value in result.scaled(weight).items():
                terms[name] = terms.get(name, 0.0) + value
        return StepSums(loss_sum, terms), weighted

    def _forward(self, part: Placed) -> tuple[Found, float | None]:
        """What the objective finds, and its weight; None where it is the samples."""
        absent, batch = contextlib.nullcontext(), part.batch
        if not part.samples and self._together is not None:
            absent, batch = self._together.absent(), self.stand_in  # type: ignore[assignment]
        with absent, self._device.autocast(self._precision):
            arguments = self._objective.arguments(self._model, batch)
            result = found(self._objective.function(*arguments))
            weight = result.weight if part.weight is None else part.weight
            if weight is None:
                return result, None
            if weight := float(weight) * bool(part.samples):
                return result, weight
            # The mean over nothing is no number.
            terms = dict.fromkeys(result.terms, 0.0)
            return Found(self._objective.nothing(arguments, result.loss), None, terms), 0.0

    def _least(self, weight: float) -> float:
        """A backward without a weight is left out, unless ranks meet in it."""
        return weight or (ABSENT if self._together is not None else 0.0)
