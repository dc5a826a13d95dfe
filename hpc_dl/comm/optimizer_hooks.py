# SPDX-License-Identifier: Apache-2.0
"""What the gradient exchange asks of an optimizer: which parameters it trains, and a word before each step.

IPEX's optimizers keep masters of their own and step past torch's hooks; they are known by their `params_attr`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.nn import Parameter
from torch.optim import Optimizer


def trained_parameters(optimizer: Optimizer) -> list[Parameter]:
    """The parameters that backward gives gradients to, in the order of the optimizer's.

    They are the optimizer's own, except where IPEX lets the optimizer work on fp32 masters.
    """
    copies = getattr(optimizer, "params_attr", {})
    own = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return [copies[p].parameter if p in copies else p for p in own]


def before_step(
    optimizer: Optimizer, action: Callable[[], None], mean: Callable[[float | None], float | None] | None = None
) -> None:
    """Call the action before every step of the optimizer, and before gradients are copied to fp32 masters.

    IPEX puts a step of its own on the optimizer, which torch's hooks do not see.

    Args:
        optimizer: Of any kind.
        action: Where the step has a closure, called at the end of the closure.
        mean: What the optimizer is to see of a closure's loss.
    """
    if not hasattr(optimizer, "params_attr"):
        optimizer.register_step_pre_hook(_acting(action, mean or (lambda loss: loss)))
        return
    step = optimizer.step

    def acting_step(*arguments: Any, **options: Any) -> Any:
        action()
        return step(*arguments, **options)

    optimizer.step = acting_step  # type: ignore[method-assign]


def _acting(
    action: Callable[[], None], mean: Callable[[float | None], float | None]
) -> Callable[..., tuple[tuple[Any, ...], dict[str, Any]] | None]:
    """A hook before `optimizer.step`: acts at once, or, where a closure runs backward, at the end of the closure."""

    def hook(optimizer: Optimizer, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        # torch hands the optimizer over once more as the first argument of step
        *before, closure = arguments if len(arguments) > 1 else (*arguments, options.get("closure"))
        if closure is None:
            action()
            return None

        def closed() -> Any:
            loss = closure()
            action()
            loss = loss.detach() if hasattr(loss, "detach") else loss
            together = mean(None if loss is None else float(loss))
            # a tensor stays one: optimizers compare losses as what the closure returned
            return loss.new_tensor(together) if hasattr(loss, "new_tensor") else together

        return (*before, closed), {name: value for name, value in options.items() if name != "closure"}

    return hook
