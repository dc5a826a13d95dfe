# SPDX-License-Identifier: Apache-2.0
"""What a run is resumed with: whatever has a state, by name, and the position."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from hpc_dl.errors import HpcDlError
from hpc_dl.run.checkpoint import Checkpoints, Position
from hpc_dl.run.resume import Course, newest
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
        course: Which samples the steps take.
    """

    def __init__(
        self,
        session: Session,
        parts: Mapping[str, Stateful],
        folder: Path,
        settings: CheckpointSettings,
        course: Course,
    ) -> None:
        self._session, self._parts, self._folder = session, dict(parts), folder
        self._must, self._course = settings.resume == "must", course
        self._checkpoints = Checkpoints(folder, settings.keep)

    def write(self, position: Position, name: str = "") -> None:
        """Write a checkpoint, on rank 0; one with a name beside those of steps."""
        if self._session.rank == 0:
            states = {name: part.state_dict() for name, part in self._parts.items()}
            self._checkpoints.write(position, states, self._course.facts, name)

    def load(self) -> Position:
        """Put the newest checkpoint into the parts of all ranks; the position is the start where there is none.

        Raises:
            HpcDlError: It holds other parts, or no step of this run begins where it ended.
        """
        content = newest(self._checkpoints, self._session.engine, self._must)
        if content is None:
            return Position()
        self._refuse_others(content["states"])
        position = self._course.position_in(content)
        for name, part in self._parts.items():
            part.load_state_dict(content["states"][name])
        if self._session.rank == 0:
            for change in [f"resumed {self._folder} after step {position.step}", *self._course.changes(content)]:
                print(f"hpc-dl: {change}", flush=True)
        return position

    def _refuse_others(self, states: Mapping[str, Any]) -> None:
        if set(states) != set(self._parts):
            raise HpcDlError(
                f"resuming {self._folder}",
                f"its checkpoint holds {', '.join(sorted(states))}, and the run's state is "
                f"{', '.join(sorted(self._parts))}",
                "give the same names (the Trainer: the same schedule.name and task.hooks), or another folder",
            )


class Drawn:
    """How many batches of the epoch the loop had drawn when its last step ended."""

    def __init__(self) -> None:
        self.batches = 0

    def state_dict(self) -> dict[str, int]:
        return {"batches": self.batches}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        self.batches = state["batches"]
