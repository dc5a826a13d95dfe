# SPDX-License-Identifier: Apache-2.0
"""Made-up samples for benchmarks and tests: seeded, and served without cost, so that only training is timed."""

from __future__ import annotations

from collections.abc import Callable

import torch

from hpc_dl.data.base import Arrays, Data, Pair
from hpc_dl.data.sharding import Indices


class Repeated:
    """A small stock of samples that stands for a large data set: a batch is a view of its beginning, never a copy.

    What a batch holds does not depend on the indices, only how many samples it has: right for timing, wrong for
    learning. Stocks are as large as the largest batch asked for.

    Args:
        make: Makes inputs and target of so many samples.
        samples: How many samples the data set claims to have.
    """

    def __init__(self, make: Callable[[int], Pair], samples: int) -> None:
        self._make, self._samples = make, samples
        self._stock = make(1)

    def __len__(self) -> int:
        return self._samples

    def batch(self, indices: Indices) -> Pair:
        count = len(indices)
        if count > len(self._stock[0]):
            self._stock = self._make(count)
        inputs, target = self._stock
        return inputs[:count], target[:count]


def images(
    samples: int = 1_281_167,
    channels: int = 3,
    size: int = 224,
    classes: int = 1000,
    evaluation_samples: int = 1000,
    seed: int = 0,
) -> Data:
    """Images (m, channels, size, size) of normal noise with random classes; as many as ImageNet unless told."""

    def make(count: int) -> Pair:
        generator = torch.Generator().manual_seed(seed)
        inputs = torch.randn(count, channels, size, size, generator=generator)
        return inputs, torch.randint(classes, (count,), generator=generator)

    return Data(Repeated(make, samples), Repeated(make, evaluation_samples))


def tokens(
    samples: int = 100_000, length: int = 1024, vocabulary: int = 50_257, evaluation_samples: int = 100, seed: int = 0
) -> Data:
    """Token windows (m, length) and the tokens that follow each (m, length); GPT-2's sizes unless told."""

    def make(count: int) -> Pair:
        generator = torch.Generator().manual_seed(seed)
        window = torch.randint(vocabulary, (count, length + 1), generator=generator)
        return window[:, :-1], window[:, 1:]

    return Data(Repeated(make, samples), Repeated(make, evaluation_samples))


def regression(
    samples: int = 10_000, features: int = 32, noise: float = 0.1, evaluation_samples: int = 1000, seed: int = 0
) -> Data:
    """A linear relation y = X w + noise with samples that differ: X is (m, features), y is (m, 1)."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(features, 1, generator=generator, dtype=torch.float64)

    def make(count: int) -> Pair:
        inputs = torch.randn(count, features, generator=generator, dtype=torch.float64)
        scatter = noise * torch.randn(count, 1, generator=generator, dtype=torch.float64)
        return inputs.float(), (inputs @ weights + scatter).float()

    return Data(Arrays(*make(samples)), Arrays(*make(evaluation_samples)))
