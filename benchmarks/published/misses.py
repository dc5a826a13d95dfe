# SPDX-License-Identifier: Apache-2.0
"""From misses on systems that did not calibrate to an interval for the next one.

A miss is the factor between true and predicted loss. Factors are drawn by bootstrap, a system first and then one of its
rows, since rows of one system miss together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
LEVEL = 0.9
DRAWS = 4000
FLOOR = 0.05
"""Added to a loss before factors are taken: a loss of nothing is known no better than published figures are."""


@dataclass(frozen=True)
class Misses:
    """Draws of the factor by which a prediction for an unseen system misses the loss."""

    factors: Floats
    effective: float
    """So many independent misses are the rows worth."""

    def interval(self, predicted: Floats, level: float = LEVEL) -> tuple[Floats, Floats]:
        """Efficiencies between which the truth lies with probability `level`.

        From so few misses the next one exceeds their quantile more often than in one case of ten: the level is raised
        to level (1 + 1/n), as in split conformal prediction (Lei et al. 2018, eq. 4).
        """
        level = min(1.0, level * (1 + 1 / self.effective))
        few, many = np.quantile(self.factors, [(1 - level) / 2, (1 + level) / 2])
        expected = loss(np.asarray(predicted))
        return from_loss(expected * many), from_loss(expected * few)


def gather(factors: Mapping[str, Sequence[float]], seed: int = 0) -> Misses:
    """Bootstrap draws from the factors of each system."""
    generator = np.random.default_rng(seed)
    systems = sorted(factors)
    drawn = generator.integers(len(systems), size=DRAWS)
    values = np.array([generator.choice(np.asarray(factors[systems[index]])) for index in drawn])
    return Misses(values, effective_size([np.log(np.asarray(factors[name])) for name in systems]))


def effective_size(groups: Sequence[Floats]) -> float:
    """Number of independent values that correlated groups are worth: n over Kish's design effect 1 + (m - 1) rho.

    rho, the correlation within a group, by analysis of variance (Donner 1986); m is the mean group size.
    """
    sizes = np.array([len(group) for group in groups], dtype=float)
    total, count = sizes.sum(), len(groups)
    if count < 2 or total <= count:
        return float(count)
    means = np.array([group.mean() for group in groups])
    between = float((sizes * (means - np.concatenate(groups).mean()) ** 2).sum()) / (count - 1)
    within = sum(float(((group - group.mean()) ** 2).sum()) for group in groups) / (total - count)
    typical = (total - (sizes**2).sum() / total) / (count - 1)
    spread = between + (typical - 1) * within
    rho = float(np.clip((between - within) / spread, 0.0, 1.0)) if spread > 0 else 1.0
    return float(total / (1 + (total / count - 1) * rho))


def loss(efficiency: Floats | float) -> Floats:
    """Time lost, as a share of the time at the baseline, plus `FLOOR`; never 0."""
    return np.maximum(1 / np.asarray(efficiency) - 1, -0.9 * FLOOR) + FLOOR


def from_loss(value: Floats | float) -> Floats:
    """The efficiency of a `loss`."""
    return 1 / (1 - FLOOR + np.asarray(value))
