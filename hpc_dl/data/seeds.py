# SPDX-License-Identifier: Apache-2.0
"""Random numbers as a pure function of seed, rank and step, so that a resumed run continues as if nothing had happened.

Nothing random has to be stored in a checkpoint, and the world size may change between two parts of a run.
"""

from __future__ import annotations

import random

import numpy as np
import torch

MASK = 2**64 - 1


def step_seed(seed: int, rank: int, step: int) -> int:
    """A 63-bit seed for what a rank computes in a step of the run."""
    return _mixed(seed, rank, step)


def batch_seed(seed: int, rank: int, epoch: int, step: int) -> int:
    """A 63-bit seed for what a rank draws while it reads its batch of one step of an epoch, such as augmentation."""
    return _mixed(seed, rank, epoch, step)


def seed_all(value: int) -> None:
    """Seed the generators that data sets and models draw from by default: torch's on the CPU, NumPy's, Python's."""
    torch.default_generator.manual_seed(value)
    np.random.seed(value % 2**32)
    random.seed(value)


def _mixed(seed: int, *words: int) -> int:
    """Well mixed (splitmix64, Steele et al. 2014)."""
    state = seed & MASK
    for word in words:
        state = _mix((state + 0x9E3779B97F4A7C15 * (word + 1)) & MASK)
    return state >> 1


def _mix(z: int) -> int:
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)
