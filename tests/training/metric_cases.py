# SPDX-License-Identifier: Apache-2.0
"""Metrics as users write them, of every kind, and a small task to evaluate with them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hpc_dl.data.base import Arrays, Data

CLASSES = 3


def model() -> nn.Module:
    return nn.Linear(5, CLASSES)


def data() -> Data:
    """Classes of very unequal size; every eighth target does not count."""
    x = torch.randn(61, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    y = (x[:, 0] > 0.3).long() + (x[:, 0] > 1.0).long()
    y[::8] = -100
    return Data(Arrays(x, y), Arrays(x[:29], y[:29]))


def counted_loss(output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The mean over the targets that count, and how many these are."""
    return nn.functional.cross_entropy(output, target), (target >= 0).sum()


def weighted_loss(output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Class weights: the mean is over their sum."""
    weight = torch.tensor([0.2, 1.0, 3.0], dtype=output.dtype)
    return nn.functional.cross_entropy(output, target, weight), weight[target[target >= 0]].sum()


class IoU:
    """Mean over classes of intersection / union; state in place, beside a constant and a note."""

    def __init__(self) -> None:
        self.share = 0.5
        self.name = "iou"
        self.intersection, self.union = torch.zeros(CLASSES), torch.zeros(CLASSES, dtype=torch.int64)

    def reset(self) -> None:
        self.intersection.zero_()
        self.union.zero_()

    def update(self, output: Tensor, target: Tensor) -> None:
        for number in range(CLASSES):
            found, there = output.argmax(1) == number, target == number
            self.intersection[number] += (found & there).sum()
            self.union[number] += (found | there).sum()

    def compute(self) -> Tensor:
        assert self.share == 0.5
        return (self.intersection / self.union.clamp(min=1)).mean()


class Perplexity:
    """Of numbers instead of tensors."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.total, self.count = 0.0, 0

    def update(self, output: Tensor, target: Tensor) -> None:
        self.total += float(nn.functional.cross_entropy(output, target, reduction="sum"))
        self.count += int((target >= 0).sum())

    def compute(self) -> float:
        assert isinstance(self.count, int)
        return float(torch.tensor(self.total / self.count).exp())


class Module(nn.Module):
    """Kept in buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("right", torch.zeros(()))
        self.register_buffer("seen", torch.zeros(()))
        self.reset()

    def reset(self) -> None:
        self.right, self.seen = torch.zeros(()), torch.zeros(())

    def update(self, output: Tensor, target: Tensor) -> None:
        self.right = self.right + (output.argmax(1) == target).sum()
        self.seen = self.seen + (target >= 0).sum()

    def compute(self) -> Tensor:
        return self.right / self.seen


class Listing:
    """Keeps samples in place of sums."""

    def reset(self) -> None:
        self.worst: list[Tensor] = []
        self.seen = 0

    def update(self, output: Tensor, target: Tensor) -> None:
        self.worst.append(output.abs().amax(1))
        self.seen += len(output)

    def compute(self) -> Tensor:
        return torch.cat(self.worst).median()


class Largest:
    """A state that is no sum."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.largest = torch.zeros(())

    def update(self, output: Tensor, target: Tensor) -> None:
        self.largest = torch.maximum(self.largest, output.abs().max())

    def compute(self) -> Tensor:
        return self.largest


class Nothing:
    """Sets nothing back."""

    def reset(self) -> None:
        return None

    def update(self, output: Tensor, target: Tensor) -> None:
        return None

    def compute(self) -> float:
        return 0.0


def root_mean_square(output: Tensor, target: Tensor) -> Tensor:
    """No mean: the root of one."""
    return output.square().mean().sqrt()


def determination(output: Tensor, target: Tensor) -> Tensor:
    """R2: no mean either."""
    return 1 - (output[:, 0] - target).square().sum() / (target - target.double().mean()).square().sum()


def padded_loss(output: Tensor, target: Tensor) -> Tensor:
    """A mean, but over the targets that count."""
    return nn.functional.cross_entropy(output, target)


def several(output: Tensor, target: Tensor) -> Tensor:
    """Not one number."""
    return output.mean(0)
