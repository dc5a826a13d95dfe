# SPDX-License-Identifier: Apache-2.0
"""The loss scaler of fp16: torch's, with a skip all ranks agree on.

Order in a step: `scale(loss).backward()`, average the gradients, `unscale_(optimizer)`, clip, `step(optimizer)`,
`update()`. Without fp16 every call passes through, so a trainer writes the same lines for every precision.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class LossScaler(torch.amp.GradScaler):
    """Skips a step where a gradient of any rank overflowed.

    Averaging spreads an infinity to all ranks, but a gradient that only one rank holds (or an exchange that clamps)
    would let ranks part for good, so the finding itself is reduced. torch.distributed.fsdp's ShardedGradScaler does
    the same in the same place.

    Args:
        device: The loss lives on.
        enabled: False passes everything through.
        agree: Reduces a one-element tensor over all ranks to its maximum, in place; None on one process.
    """

    def __init__(
        self, device: torch.device, enabled: bool, agree: Callable[[Tensor], None] | None = None, **options: Any
    ) -> None:
        super().__init__(device.type, enabled=enabled, **options)
        if self._enabled:  # now and not with the first loss: a rank without samples has none, and votes all the same
            self._lazy_init_scale_growth_tracker(device)
        self._agree = agree
        self.skipped = False
        """Did the last step leave the parameters alone?"""

    def unscale_(self, optimizer: Optimizer) -> None:
        """Divide the gradients by the scale and learn, from all ranks, whether one of them overflowed."""
        super().unscale_(optimizer)
        if not self._enabled:
            return
        findings = self._per_optimizer_states[id(optimizer)]["found_inf_per_device"]
        if not findings:  # no gradient on this rank: nothing overflowed here, but the others wait for the answer
            findings[self._scale.device] = torch.zeros((), device=self._scale.device)  # type: ignore[union-attr]
        if self._agree is not None:
            for finding in findings.values():
                self._agree(finding)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with a checkpoint's loss scale, where both runs have one."""
        if state_dict and self._enabled:
            super().load_state_dict(state_dict)

    def _maybe_opt_step(self, optimizer: Optimizer, optimizer_state: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        self.skipped = any(finding.item() for finding in optimizer_state["found_inf_per_device"].values())
        return None if self.skipped else optimizer.step(*args, **kwargs)
