# SPDX-License-Identifier: Apache-2.0
"""The step split and what efficiency was lost to, with delays put in by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hpc_dl.runlog.records import Run, Spread, Window
from hpc_dl.scaling.efficiency import points, sizes
from hpc_dl.scaling.split import CAUSES, PARTS, lost, split
from tests.scaling import synthetic

BASE = {"input": 0.02, "forward": 0.1, "backward": 0.2, "exchange": 0.0, "optimizer": 0.03, "other": 0.01}


def study_run(ranks: int, phases: dict[str, Spread], slowest: float, local_batch: int = 64) -> Run:
    """A run of 10 windows of 10 steps; `phases` are seconds per step."""
    head = synthetic.header(ranks, local_batch=local_batch)
    scaled = {name: Spread(10 * s.mean, 10 * s.min, 10 * s.max, s.max_rank) for name, s in phases.items()}
    mean = sum(spread.mean for spread in scaled.values())
    window = Window(
        0, 10, False, 0, 10 * head.global_batch, Spread(mean, mean, 10 * slowest, 0), scaled, (slowest,) * 10, 0.1, 1.0
    )
    empty = synthetic.run(head, [1.0])
    return replace(empty, windows=tuple(replace(window, first_step=10 * number) for number in range(10)))


def even(**changes: float) -> dict[str, Spread]:
    return {name: synthetic.even(seconds) for name, seconds in (BASE | changes).items()}


ALONE = study_run(1, even(), 0.36)


def found(run: Run) -> dict[str, float]:
    return split(sizes([run])[0]).seconds


def test_the_parts_are_the_phases_where_ranks_are_alike() -> None:
    parts = found(study_run(2, even(exchange=0.05), 0.41))
    assert parts == pytest.approx(
        {
            "input": 0.02,
            "forward": 0.1,
            "backward": 0.2,
            "communication": 0.05,
            "imbalance": 0.0,
            "optimizer": 0.03,
            "other": 0.01,
        }
    )


def test_a_late_rank_is_imbalance_and_not_communication() -> None:
    """One of 4 ranks is 30 ms late in backward: three wait 30 ms in the exchange, the late one does not."""
    late = even() | {
        "backward": Spread(0.2 + 0.03 / 4, 0.2, 0.23, 3),
        "exchange": Spread(0.05 + 0.03 * 3 / 4, 0.05, 0.08, 0),
    }
    size = sizes([study_run(4, late, 0.44)])[0]
    parts = split(size)
    assert parts.seconds["communication"] == pytest.approx(0.05)
    assert parts.seconds["imbalance"] == pytest.approx(0.03 * 3 / 4)
    assert sum(parts.seconds.values()) == pytest.approx(0.44)
    assert parts.straggler is not None
    assert (parts.straggler.rank, parts.straggler.phase, parts.straggler.share) == (3, "backward", 1.0)
    assert parts.straggler.seconds == pytest.approx(0.03 * 3 / 4)


def test_ranks_that_are_alike_have_no_straggler() -> None:
    assert split(sizes([study_run(2, even(exchange=0.05), 0.41)])[0]).straggler is None


def test_what_no_phase_covers_is_said() -> None:
    parts = split(sizes([study_run(2, even(exchange=0.05), 0.5)])[0])
    assert parts.seconds["imbalance"] == pytest.approx(0.09)  # the slowest rank's time beyond the mean
    assert parts.unaccounted == pytest.approx(0.0)
    holes = even(exchange=0.05)
    run = study_run(2, holes, 0.41)
    short = [replace(w, phases={**w.phases, "forward": synthetic.even(0.0)}) for w in run.windows]
    assert split(sizes([replace(run, windows=tuple(short))])[0]).unaccounted == pytest.approx(0.1 / 0.41)


def test_a_log_without_phases_has_no_split() -> None:
    assert found(synthetic.run(synthetic.header(2), [1.0] * 9, split={})) == {}


INJECTED = {
    "input": {"input": 0.07},
    "communication": {"exchange": 0.02},
    "compute": {"backward": 0.25},
    "other": {"other": 0.02},
}


@pytest.mark.parametrize("cause", INJECTED)
def test_what_is_put_in_is_what_efficiency_was_lost_to(cause: str) -> None:
    changed = even(**INJECTED[cause])
    whole = sum(spread.mean for spread in changed.values())
    measured = sizes([ALONE, study_run(2, changed, whole)])
    losses = lost(split(measured[1]), split(measured[0]))
    efficiency = points(measured, measured[0])[1].efficiency.value
    assert efficiency == pytest.approx(0.36 / whole)
    assert losses[cause] == pytest.approx(1 - 0.36 / whole)
    assert sum(abs(losses[other]) for other in CAUSES if other != cause) == pytest.approx(0)


def test_losses_and_efficiency_sum_to_one_in_strong_scaling_with_smaller_kernels() -> None:
    """4 times the ranks at a quarter of the batch: forward and backward shrink to a half only."""
    small = {name: seconds / 4 for name, seconds in BASE.items()} | {"forward": 0.05, "backward": 0.1, "exchange": 0.03}
    run = study_run(4, {name: synthetic.even(s) for name, s in small.items()}, sum(small.values()), local_batch=16)
    measured = sizes([ALONE, run])
    losses = lost(split(measured[1]), split(measured[0]))
    efficiency = points(measured, measured[0])[1].efficiency.value
    assert sum(losses.values()) + efficiency == pytest.approx(1)
    cost = 4 * sum(small.values())
    assert losses["compute"] == pytest.approx((4 * 0.15 + 4 * 0.0075 - 0.33) / cost)
    assert losses["communication"] == pytest.approx(4 * 0.03 / cost)


def test_repeats_weigh_the_same_in_the_split() -> None:
    run = study_run(2, even(exchange=0.05), 0.41)
    other = study_run(2, even(exchange=0.15), 0.51)
    header = replace(other.header, run_id="again")
    short = replace(other, header=header, windows=other.windows[:8])
    parts = split(sizes([run, short])[0]).seconds
    assert parts["communication"] == pytest.approx(0.1)
    assert set(parts) == set(PARTS)
