# SPDX-License-Identifier: Apache-2.0
"""Where the seconds of a step went, on this rank.

Marks are taken from the device (a clock reading on a CPU, an event on a GPU), so a step does not wait for the device;
they are turned into seconds when a window of steps ends, which does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpc_dl.runlog.records import PHASES

if TYPE_CHECKING:
    from hpc_dl.devices.base import Device

STEP_END = "step end"
RESTART = "restart"


class StepTimer:
    """Laps follow each other without gaps, so the phases of a step sum to its time."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._marks: list[tuple[str, object]] = []
        self.restart()

    def restart(self) -> None:
        """Forget the time since the last lap: it belonged to no step (an evaluation, a checkpoint)."""
        if self._marks and self._marks[-1][0] == RESTART:
            self._marks.pop()
        self._marks.append((RESTART, self._device.mark()))

    def lap(self, phase: str) -> None:
        """Book the time since the last lap on a phase."""
        self._marks.append((phase, self._device.mark()))

    def end_step(self) -> None:
        """Book the rest of the step as "other" and close it."""
        self.lap("other")
        self._marks.append((STEP_END, self._marks[-1][1]))

    def take(self) -> tuple[dict[str, float], list[float]]:
        """Seconds per phase, and per step, of the steps that have ended since the last call. Waits for the device."""
        self._device.synchronize()
        ends = [number for number, (label, _) in enumerate(self._marks) if label == STEP_END]
        ended = ends[-1] + 1 if ends else 1
        marks, ahead = self._marks[:ended], self._marks[ended:]
        phases = dict.fromkeys(PHASES, 0.0)
        steps: list[float] = []
        step_seconds = 0.0
        _, earlier = marks[0]
        for label, mark in marks[1:]:
            if label == STEP_END:
                steps.append(step_seconds)
                step_seconds = 0.0
            elif label != RESTART:
                passed = self._device.seconds_between(earlier, mark)
                phases[label] += passed
                step_seconds += passed
            earlier = mark
        self._marks = [(RESTART, earlier), *ahead]
        return phases, steps
