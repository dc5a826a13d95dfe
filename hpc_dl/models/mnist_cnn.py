# SPDX-License-Identifier: Apache-2.0
"""A convolutional network of four layers for images of 28 x 28 points in one channel: 21,840 parameters.

The first example of the course, small enough to train in seconds on one core. Two convolutions find local patterns,
two fully connected layers tell the classes apart; dropout keeps so small a network from learning the samples by heart.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class MnistCnn(nn.Module):
    """Log-probabilities of ten classes; train it with the negative log-likelihood (`nll_loss`).

    Args:
        classes: How many classes to tell apart.
        dropout: Probability that an activation is set to zero while training.
    """

    def __init__(self, classes: int = 10, dropout: float = 0.5) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 10, kernel_size=5)  # 10 * (1 * 25 + 1) = 260 parameters
        self.conv2 = nn.Conv2d(10, 20, kernel_size=5)  # 20 * (10 * 25 + 1) = 5,020
        self.drop2 = nn.Dropout2d(dropout)  # drops whole channels: neighbouring points carry the same information
        self.full1 = nn.Linear(320, 50)  # 50 * (320 + 1) = 16,050
        self.drop = nn.Dropout(dropout)
        self.full2 = nn.Linear(50, classes)  # 10 * (50 + 1) = 510

    def forward(self, x: Tensor) -> Tensor:
        """Images (m, 1, 28, 28) to log-probabilities (m, classes)."""
        x = F.relu(F.max_pool2d(self.conv1(x), 2))  # (m, 10, 24, 24) -> (m, 10, 12, 12)
        x = F.relu(F.max_pool2d(self.drop2(self.conv2(x)), 2))  # (m, 20, 8, 8) -> (m, 20, 4, 4)
        x = x.flatten(1)  # (m, 320)
        x = self.drop(F.relu(self.full1(x)))  # (m, 50)
        return F.log_softmax(self.full2(x), dim=1)  # (m, classes)
