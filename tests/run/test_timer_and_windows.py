# SPDX-License-Identifier: Apache-2.0
"""Laps sum to the step; windows are reduced over ranks as they should be."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hpc_dl.comm.base import Done, Op, Work
from hpc_dl.comm.single import SingleEngine
from hpc_dl.run.stopping import Watch
from hpc_dl.run.timer import StepTimer
from hpc_dl.run.windows import LocalWindow, Reduction, WindowStream
from hpc_dl.runlog.records import PHASES, Window


class Clock:
    """A device whose marks are readings of a clock the test sets."""

    now = 0.0

    def mark(self) -> float:
        return self.now

    def seconds_between(self, earlier: float, later: float) -> float:
        return later - earlier

    def synchronize(self) -> None:
        return None


def test_laps_go_to_their_phases_and_pauses_to_none() -> None:
    clock = Clock()
    timer = StepTimer(clock)  # type: ignore[arg-type]
    for input_seconds in (1.0, 2.0):
        clock.now += input_seconds
        timer.lap("input")
        clock.now += 3
        timer.lap("forward")
        clock.now += 0.5
        timer.end_step()
        clock.now += 100  # an evaluation
        timer.restart()
    phases, steps = timer.take()
    assert steps == [4.5, 5.5]
    assert phases == {**dict.fromkeys(PHASES, 0.0), "input": 3.0, "forward": 6.0, "other": 1.0}
    clock.now += 2
    timer.lap("input")
    timer.end_step()
    assert timer.take() == ({**dict.fromkeys(PHASES, 0.0), "input": 2.0}, [2.0])


def _window(seconds: float, loss_sum: float = 8.0) -> LocalWindow:
    phases = {**dict.fromkeys(PHASES, 0.0), "input": seconds / 4, "forward": seconds * 3 / 4}
    return LocalWindow(20, False, 1, 64 / 3, phases, (seconds,), 0.1, loss_sum)


class ThreeRanks(SingleEngine):
    """Plays ranks 0, 1 and 2 one after the other and keeps what they reduce."""

    world_size = 3

    def __init__(self) -> None:
        self.tensors: list[tuple[torch.Tensor, str]] = []

    def reduce_async(self, tensor: torch.Tensor, op: str, name: str) -> Done:  # type: ignore[override]
        self.tensors.append((tensor, op))
        return Done()

    def settle(self) -> None:
        """Reduce what the three ranks have started, in place."""
        for number in range(2):
            group = self.tensors[number::2]
            together = torch.stack([tensor for tensor, _ in group])
            result = together.sum(0) if group[0][1] == "sum" else together.max(0).values
            for tensor, _ in group:
                tensor.copy_(result)


def test_a_window_keeps_mean_extremes_and_the_slowest_rank() -> None:
    engine = ThreeRanks()
    reductions = []
    for rank, seconds in enumerate((2.0, 6.0, 4.0)):
        engine.rank = rank
        reductions.append(Reduction(engine, [_window(seconds)]))
    engine.settle()
    for reduction in reductions:
        (window,) = reduction.result()
        assert window.seconds.mean == pytest.approx(4.0)
        assert window.seconds.min == pytest.approx(2.0, abs=1e-6)
        assert window.seconds.max == pytest.approx(6.0, abs=1e-6)
        assert window.seconds.max_rank == 1
        assert window.phases["input"].max == pytest.approx(1.5, abs=1e-6)
        assert window.loss == pytest.approx(24 / 64)


def test_the_largest_rank_and_a_window_of_days_fit_into_64_bits() -> None:
    engine = ThreeRanks()
    engine.rank = 127_487
    reduction = Reduction(engine, [_window(5 * 86400.0)])
    (window,) = reduction.result()
    assert window.seconds.max == pytest.approx(5 * 86400.0)
    assert window.seconds.max_rank == 127_487


def test_a_stream_hands_windows_on_one_later_and_in_order() -> None:
    heard: list[Window] = []
    stream = WindowStream(SingleEngine(), heard.append, Watch())
    for seconds in (1.0, 2.0, 3.0):
        stream.push(_window(seconds))
    assert [window.seconds.max for window in heard] == pytest.approx([1.0, 2.0])
    stream.flush()
    assert [window.seconds.max for window in heard] == pytest.approx([1.0, 2.0, 3.0])


def test_short_windows_share_a_reduction_about_once_a_second() -> None:
    started: list[int] = []

    class Counting(SingleEngine):
        def reduce_async(self, tensor: Tensor, op: Op, name: str) -> Work:
            started.append(len(tensor))
            return super().reduce_async(tensor, op, name)

    heard: list[Window] = []
    stream = WindowStream(Counting(), heard.append, Watch())
    seconds = [0.25] * 10
    for each in seconds:
        stream.push(_window(each))
    stream.flush()
    assert [window.seconds.max for window in heard] == pytest.approx(seconds)
    # Nothing is known before the second window arrives: the first two travel alone, later ones by fours.
    assert started[::2] == [1, 1, 4, 4]
