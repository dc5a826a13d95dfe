# SPDX-License-Identifier: Apache-2.0
"""LARS and LAMB: optimizers for very large batches, whose step on each weight tensor is proportional to the tensor.

Both scale the update of a tensor by a trust ratio of norms. As in the authors' code, biases and normalisation
parameters (one dimension) are left out of it. Written here because the kept libraries do not fit: timm 1.0.31 brings
torchvision and a hub client along, pytorch-optimizer 4.1.0 has a LAMB without bias correction and with clamped norms.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

Groups = Iterable[Tensor] | Sequence[dict[str, Any]]


class Lars(Optimizer):
    """SGD with momentum and a trust ratio (You, Gitman and Ginsburg 2017, arXiv:1708.03888, algorithm 1).

        u = trust * |w| / (|g| + decay * |w|) * (g + decay * w)
        v = momentum * v + u
        w = w - rate * v

    The rate stands outside the momentum, as in torch's SGD; the paper has it inside, which is the same while the rate
    is constant.

    Args:
        groups: Parameters, or groups of them with their weight_decay.
        lr: Learning rate; about 1000 times that of SGD at the default trust.
        trust: The paper's eta.
    """

    def __init__(
        self, groups: Groups, lr: float, momentum: float = 0.9, weight_decay: float = 0.0, trust: float = 0.001
    ) -> None:
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One update of every parameter that has a gradient; they leave the gradients as they are."""
        loss = _loss(closure)
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            gradients = _gradients(parameters)
            updates = list(torch._foreach_add(gradients, parameters, alpha=group["weight_decay"]))
            places = [place for place, p in enumerate(parameters) if p.ndim > 1]
            if places:
                weights = torch._foreach_norm([parameters[place] for place in places])
                slopes = torch._foreach_norm([gradients[place] for place in places])
                decays = torch._foreach_mul(weights, group["weight_decay"])
                numerators = torch._foreach_mul(weights, group["trust"])
                ratios = _ratios(numerators, torch._foreach_add(slopes, decays))
                torch._foreach_mul_([updates[place] for place in places], ratios)
            velocities = [_moment(self.state[p], "momentum_buffer", p) for p in parameters]
            torch._foreach_mul_(velocities, group["momentum"])
            torch._foreach_add_(velocities, updates)
            torch._foreach_add_(parameters, velocities, alpha=-group["lr"])
        return loss


class Lamb(Optimizer):
    """Adam with a trust ratio (You et al. 2019, arXiv:1904.00962, algorithm 2, phi(x) = x).

        r = m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps) + decay * w
        w = w - rate * |w| / |r| * r

    Args:
        groups: Parameters, or groups of them with their weight_decay.
        lr: Learning rate.
        betas: Decay of the running means m of the gradient and v of its square.
    """

    def __init__(
        self,
        groups: Groups,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        eps: float = 1e-6,
    ) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "weight_decay": weight_decay, "eps": eps, "steps": 0})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One update of every parameter that has a gradient; they leave the gradients as they are."""
        loss = _loss(closure)
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            group["steps"] += 1
            if not parameters:
                continue
            updates = self._adam_updates(parameters, group)
            torch._foreach_add_(updates, parameters, alpha=group["weight_decay"])
            places = [place for place, p in enumerate(parameters) if p.ndim > 1]
            if places:
                weights = torch._foreach_norm([parameters[place] for place in places])
                lengths = torch._foreach_norm([updates[place] for place in places])
                torch._foreach_mul_([updates[place] for place in places], _ratios(weights, lengths))
            torch._foreach_add_(parameters, updates, alpha=-group["lr"])
        return loss

    def _adam_updates(self, parameters: list[Tensor], group: dict[str, Any]) -> list[Tensor]:
        """Adam's bias-corrected step of each parameter, before the learning rate."""
        (beta1, beta2), steps = group["betas"], group["steps"]
        gradients = _gradients(parameters)
        means = [_moment(self.state[p], "exp_avg", p) for p in parameters]
        squares = [_moment(self.state[p], "exp_avg_sq", p) for p in parameters]
        torch._foreach_mul_(means, beta1)
        torch._foreach_add_(means, gradients, alpha=1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, gradients, gradients, value=1 - beta2)
        roots = torch._foreach_sqrt(squares)
        torch._foreach_div_(roots, (1 - beta2**steps) ** 0.5)
        torch._foreach_add_(roots, group["eps"])
        updates = list(torch._foreach_div(means, 1 - beta1**steps))
        torch._foreach_div_(updates, roots)
        return updates


def _ratios(numerators: Sequence[Tensor], denominators: Sequence[Tensor]) -> list[Tensor]:
    """Quotients, 1 where either is 0 (a fresh zero weight must be able to leave zero); nothing waits for the device."""
    top, bottom = torch.stack(tuple(numerators)), torch.stack(tuple(denominators))
    return list(torch.where((top > 0) & (bottom > 0), top / bottom, torch.ones_like(top)).unbind())


def _gradients(parameters: Sequence[Tensor]) -> list[Tensor]:
    return [p.grad for p in parameters if p.grad is not None]


def _moment(state: dict[str, Any], name: str, parameter: Tensor) -> Tensor:
    if name not in state:
        state[name] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
    moment: Tensor = state[name]
    return moment


def _loss(closure: Any) -> Any:
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()
