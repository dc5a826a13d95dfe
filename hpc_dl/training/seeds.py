# SPDX-License-Identifier: Apache-2.0
"""Random numbers as a pure function of (seed, rank, step), so that a resumed run continues as if nothing had happened.

Nothing random has to be stored in a checkpoint, and the world size may change between two parts of a run.
"""

from __future__ import annotations

MASK = 2**64 - 1


def step_seed(seed: int, rank: int, step: int) -> int:
    """A 63-bit seed for one rank and step, well mixed (splitmix64, Steele et al. 2014)."""
    state = seed & MASK
    for word in (rank, step):
        state = _mix((state + 0x9E3779B97F4A7C15 * (word + 1)) & MASK)
    return state >> 1


def _mix(z: int) -> int:
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)
