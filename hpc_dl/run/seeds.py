# SPDX-License-Identifier: Apache-2.0
"""Random numbers of a run, drawn anew for each step and batch: a resumed run draws those of an unbroken one."""

from __future__ import annotations

from hpc_dl.data.seeds import batch_seed, seed_all, step_seed
from hpc_dl.session import Session


class Seeds:
    """Seeds the default generators of this process and its device.

    Args:
        session: Knows the rank.
        seed: Of the run.
    """

    def __init__(self, session: Session, seed: int) -> None:
        self._session, self._seed = session, seed

    def step(self, step: int) -> None:
        """What a step draws, such as dropout: other numbers on each rank."""
        seed = step_seed(self._seed, self._session.rank, step)
        seed_all(seed)
        self._session.device.seed(seed)

    def batch(self, epoch: int, number: int) -> None:
        """What order and augmentation of a batch are drawn from, where this process draws them."""
        seed_all(batch_seed(self._seed, self._session.rank, epoch, number))
