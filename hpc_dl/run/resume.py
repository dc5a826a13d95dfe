# SPDX-License-Identifier: Apache-2.0
"""Going on from a checkpoint: where the run before had come to, and whether the samples ahead are those it expects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hpc_dl.comm.base import Engine
from hpc_dl.comm.flat import broadcast_state
from hpc_dl.data.sharding import Plan
from hpc_dl.errors import HpcDlError
from hpc_dl.run.checkpoint import Checkpoints, Position

BATCH, SAMPLES = "global batch", "training samples"
ORDER = (SAMPLES, "training.seed", "data.shuffle")
"""What decides the order of an epoch's samples."""


@dataclass(frozen=True)
class Course:
    """Which samples the steps of an epoch take."""

    facts: Mapping[str, int]
    """What decides it, by name; stored in every checkpoint."""
    global_batch: int
    steps_per_epoch: int | None = None
    """None where nobody knows."""

    @classmethod
    def of(cls, plan: Plan) -> Course:
        """That of a plan."""
        facts = {
            SAMPLES: plan.samples,
            BATCH: plan.step_samples,
            "training.seed": plan.seed,
            "data.shuffle": int(plan.shuffle),
            "training.drop_last": int(plan.drop_last),
        }
        return cls(facts, plan.step_samples, plan.steps_per_epoch)

    def steps_left(self, epochs: int, position: Position) -> int | None:
        """Steps to the end of so many epochs; how many an epoch takes may have changed since the position."""
        if self.steps_per_epoch is None:
            return None
        done = position.epoch_samples // self.global_batch
        return max(0, epochs - position.epoch) * self.steps_per_epoch - done

    def position_in(self, content: Mapping[str, Any]) -> Position:
        """Where the checkpoint's run had come to.

        Within an epoch the steps ahead must take the samples that are left of it: their order stays, and a step of the
        new batch must begin there. Between two epochs everything may change.

        Raises:
            HpcDlError: The rest of the epoch would not be the one that was left; names what is different.
        """
        position = Position(**content["position"])
        if position.epoch_samples == 0:
            return position
        for name, then, now in self._differences(content):
            if name not in ORDER:
                continue
            raise HpcDlError(
                f"resuming within an epoch ({position.epoch_samples} samples into it) with {name} = {now}",
                f"it was {then} when the checkpoint was written, so other samples would be left",
                f"resume with {name} = {then}, or from a checkpoint at the end of an epoch",
            )
        step, rest = divmod(position.epoch_samples, self.global_batch)
        if rest or (self.steps_per_epoch is not None and step >= self.steps_per_epoch):
            samples = f" and {self.facts[SAMPLES]} training samples" if SAMPLES in self.facts else ""
            raise HpcDlError(
                f"resuming with a global batch of {self.global_batch}{samples}",
                f"the run stopped {position.epoch_samples} samples into an epoch, where no step begins",
                "resume with the batch and the data of before, or from a checkpoint at the end of an epoch",
            )
        return position

    def changes(self, content: Mapping[str, Any]) -> list[str]:
        """What is different from the checkpoint's run, a sentence each."""
        return [f"resumed with {name} = {now}; it was {then} before" for name, then, now in self._differences(content)]

    def _differences(self, content: Mapping[str, Any]) -> Iterator[tuple[str, int, int]]:
        """Name, value then, value now."""
        then = content.get("order", {})  # older checkpoints hold none
        for name, now in self.facts.items():
            if name in then and then[name] != now:
                yield name, int(then[name]), now


def newest(checkpoints: Checkpoints, engine: Engine, must: bool) -> dict[str, Any] | None:
    """The newest whole checkpoint on all ranks, which rank 0 reads; None where there is none.

    Raises:
        HpcDlError: There is none and there must be one, or there is one that cannot be used.
    """
    content: dict[str, Any] | None = broadcast_state(engine, checkpoints.newest() if engine.rank == 0 else None)
    if content is None and must:
        raise HpcDlError("checkpoint.resume = 'must'", "the run's folder holds no whole checkpoint", "use 'auto'")
    return content
