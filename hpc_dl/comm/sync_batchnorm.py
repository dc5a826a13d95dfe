# SPDX-License-Identifier: Apache-2.0
"""Batch normalisation over the global batch: the statistics of all ranks' samples together, over any engine.

Forward sums, per channel, count, sum and sum of squares over ranks, as one vector in float64: the square of the mean is
then subtracted without loss, however far the mean is from zero. Backward sums two numbers per channel, so that a rank's
gradient with respect to its input holds what its samples did to everybody's loss; those of weight and bias stay the
rank's own, and are averaged with all other gradients.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from hpc_dl.comm.base import Engine


class Together:
    """The ranks that normalise together; shared by all layers of a model."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.counted = True
        """Do this rank's samples count?"""

    def __deepcopy__(self, memo: Any) -> Together:
        """Copies of a model, as averaged weights are, stay among the same ranks: an engine cannot be copied."""
        return self

    @contextlib.contextmanager
    def absent(self) -> Iterator[None]:
        """This rank's samples are stand-ins: it takes part in every sum and adds nothing.

        For a rank that has no samples left in the last step of an epoch; without it the others would wait for ever.
        """
        self.counted = False
        try:
            yield
        finally:
            self.counted = True

    def sum(self, values: Tensor, name: str) -> Tensor:
        """The sum over ranks, in place."""
        self._engine.reduce_async(values, "sum", name).wait()
        return values


def convert(model: nn.Module, engine: Engine) -> nn.Module:
    """Let the batch normalisations of a model see the global batch.

    Parameters, buffers and their names stay what they are: optimizers built before and checkpoints written with either
    kind of layer fit.

    Returns:
        The model; a new layer where the model itself is a batch normalisation. On one rank nothing changes.
    """
    layers = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    if engine.world_size == 1 or not layers:
        return model
    together = Together(engine)
    converted = {id(layer): SyncBatchNorm(layer, together, f"batchnorm.{n}") for n, layer in enumerate(layers)}
    for module in model.modules():
        for name, child in list(module._modules.items()):  # named_children names a layer used twice once
            if id(child) in converted:
                setattr(module, name, converted[id(child)])
    return converted.get(id(model), model)


def together_of(model: nn.Module) -> Together | None:
    """What the converted layers of a model share; None where it has none."""
    return next((module.together for module in model.modules() if isinstance(module, SyncBatchNorm)), None)


class SyncBatchNorm(_BatchNorm):
    """A batch normalisation that takes over another one's parameters, buffers and settings.

    Args:
        layer: Of any dimension.
        together: The ranks.
        name: Of its sums, the same on all ranks.
    """

    over_all_ranks = True
    """Its running statistics are the same on all ranks, so their agreement can be checked."""

    def __init__(self, layer: _BatchNorm, together: Together, name: str) -> None:
        super().__init__(layer.num_features, layer.eps, layer.momentum, affine=False, track_running_stats=False)
        self.affine, self.track_running_stats = layer.affine, layer.track_running_stats
        self.weight, self.bias = layer.weight, layer.bias
        for buffer in ("running_mean", "running_var", "num_batches_tracked"):
            delattr(self, buffer)
            self.register_buffer(buffer, getattr(layer, buffer))
        self._check_input_dim = layer._check_input_dim  # type: ignore[method-assign]
        self.together, self._name = together, name
        self.train(layer.training)

    # Collectives in the middle of a compiled graph are no use to the compiler.
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        self._check_input_dim(input)  # type: ignore[no-untyped-call]
        arguments = input, self.weight, self.bias, self.eps, self.together, self._name
        normalised: tuple[Tensor, ...] = _Normalise.apply(*arguments)  # type: ignore[no-untyped-call]
        output, *statistics = normalised
        if self.track_running_stats:
            self._track(*statistics)
        return output

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        """Running statistics, as torch keeps them: the variance without bias, momentum None for the mean of all."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        factor = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), factor)
        unbiased = variance * count / (count - 1).clamp(min=1)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), factor)


class _Normalise(torch.autograd.Function):
    """(x - mean) / sqrt(variance + eps) * weight + bias, with mean and variance over all ranks' samples."""

    @staticmethod
    def forward(
        context: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, together: Together, name: str
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        mean, variance, count = _statistics(x, together, f"{name}.forward")
        kind = _kind(x)
        output = nn.functional.batch_norm(x, mean.to(kind), variance.to(kind), weight, bias, False, 0.0, eps)
        context.save_for_backward(x, weight, mean.to(kind), (variance + eps).rsqrt().to(kind), count)
        context.together, context.name, context.counted = together, name, together.counted
        context.mark_non_differentiable(mean, variance, count)
        return output, mean, variance, count

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        x, weight, mean, scale, count = context.saved_tensors
        over, shape = _others(x), (-1, *[1] * (x.dim() - 2))
        gradient = gradient.to(mean.dtype)
        normal = (x.to(mean.dtype) - mean.view(shape)) * scale.view(shape)
        of_bias, of_weight = gradient.sum(over), (gradient * normal).sum(over)
        sums = torch.stack([of_bias, of_weight]).double()
        means = (context.together.sum(sums, f"{context.name}.backward") / count).to(mean.dtype)
        of_input = gradient - means[0].view(shape) - normal * means[1].view(shape) if context.counted else gradient
        of_input = of_input * (scale if weight is None else scale * weight).view(shape)
        affine = (None, None) if weight is None else (of_weight.to(weight.dtype), of_bias.to(weight.dtype))
        return (of_input.to(x.dtype), *affine, None, None, None)


def _statistics(x: Tensor, together: Together, name: str) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and biased variance per channel, and samples per channel, over all ranks; in float64."""
    channels = x.shape[1]
    sums = torch.zeros(2 * channels + 1, dtype=torch.float64, device=x.device)
    if together.counted and x.numel():
        variance, mean = torch.var_mean(x.to(_kind(x)), _others(x), correction=0)
        count = x.numel() // channels
        mean = mean.double()
        sums[:channels] = mean * count
        sums[channels:-1] = (variance.double() + mean.square()) * count
        sums[-1] = count
    together.sum(sums, name)
    mean = sums[:channels] / sums[-1]
    return mean, (sums[channels:-1] / sums[-1] - mean.square()).clamp_(min=0), sums[-1]


def _kind(x: Tensor) -> torch.dtype:
    """The type statistics are kept in: half precision is too coarse for them."""
    return x.dtype if x.dtype in (torch.float32, torch.float64) else torch.float32


def _others(x: Tensor) -> list[int]:
    """All dimensions but that of the channels."""
    return [dimension for dimension in range(x.dim()) if dimension != 1]
