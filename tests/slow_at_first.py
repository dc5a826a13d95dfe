# SPDX-License-Identifier: Apache-2.0
"""A loss that takes its time until the run has a checkpoint: copied to where jobs start, for chains of them."""

from __future__ import annotations

import os
import time
from pathlib import Path

from torch import Tensor
from torch.nn.functional import cross_entropy

slow = not Path(os.environ["HPC_DL_RUN_FOLDER"], "checkpoints").exists()


def loss(output: Tensor, target: Tensor) -> Tensor:
    """Cross entropy."""
    time.sleep(0.5 if slow else 0)
    return cross_entropy(output, target)
