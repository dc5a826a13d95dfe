# SPDX-License-Identifier: Apache-2.0
"""What a run of one's own loop is resumed with: whatever has a state, by name, and the position."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from hpc_dl.errors import HpcDlError
from hpc_dl.run.checkpoint import Checkpoints, Position
from hpc_dl.run.resume import newest
from hpc_dl.session import Session
from hpc_dl.settings import CheckpointSettings


class Stateful(Protocol):
    """A model, an optimizer, a schedule, averaged weights: whatever a run has to be resumed with."""

    def state_dict(self) -> Mapping[str, Any]: ...
    def load_state_dict(self, state: Any) -> Any: ...


class States:
    """The parts of a run in its checkpoints.

    Args:
        session: Its rank 0 reads and writes.
        parts: By name, the same on all ranks.
        folder: The run's.
        settings: How many checkpoints stay, and whether one is to be resumed.
        global_batch: Samples of a step over all ranks.
    """

    def __init__(
        self,
        session: Session,
        parts: Mapping[str, Stateful],
        folder: Path,
        settings: CheckpointSettings,
        global_batch: int,
    ) -> None:
        self._session, self._parts, self._folder = session, dict(parts), folder
        self._must, self._global_batch = settings.resume == "must", global_batch
        self._checkpoints = Checkpoints(folder, settings.keep)

    def write(self, position: Position) -> None:
        """Write a checkpoint, on rank 0."""
        if self._session.rank == 0:
            states = {name: part.state_dict() for name, part in self._parts.items()}
            self._checkpoints.write(position, states=states, order={"global batch": self._global_batch})

    def load(self) -> Position:
        """Put the newest checkpoint into the parts of all ranks; the position is the start where there is none.

        Raises:
            HpcDlError: It holds other parts, or no step of this run begins where it ended.
        """
        content = newest(self._checkpoints, self._session.engine, self._must)
        if content is None:
            return Position()
        self._refuse_others(content)
        for name, part in self._parts.items():
            part.load_state_dict(content["states"][name])
        position = Position(**content["position"])
        if position.epoch_samples % self._global_batch:
            raise HpcDlError(
                f"resuming {self._folder} with a global batch of {self._global_batch}",
                f"it stopped {position.epoch_samples} samples into an epoch, where no step begins",
                f"resume with the global batch of before, {content['order'].get('global batch')}",
            )
        if self._session.rank == 0:
            print(f"resumed {self._folder} after step {position.step}", flush=True)
        return position

    def _refuse_others(self, content: Mapping[str, Any]) -> None:
        states = content.get("states")
        if states is None or set(states) != set(self._parts):
            raise HpcDlError(
                f"resuming {self._folder}",
                f"its checkpoint holds {', '.join(sorted(states)) if states else 'a run of the Trainer'}, "
                f"and the run's state is {', '.join(sorted(self._parts))}",
                "give the same names, or another folder",
            )
