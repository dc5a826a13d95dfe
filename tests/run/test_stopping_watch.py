# SPDX-License-Identifier: Apache-2.0
"""When a rank would write a checkpoint or stop, by a clock the test sets."""

from __future__ import annotations

import pytest

from hpc_dl.errors import HpcDlError
from hpc_dl.run.stopping import Watch, Wish, job_end
from hpc_dl.settings import CheckpointSettings

START = 1_000_000.0


class Clock:
    """Seconds since 1970, as the test says."""

    now = START

    def __call__(self) -> float:
        return self.now


def _watch(job_end: float | None = None, **settings: float) -> tuple[Watch, Clock]:
    clock = Clock()
    return Watch(CheckpointSettings(**settings), job_end, clock), clock  # type: ignore[arg-type]


def test_a_checkpoint_is_due_after_so_many_minutes_and_again_after_as_many() -> None:
    watch, clock = _watch(every_minutes=15)
    wishes = []
    for minute in range(1, 40):
        clock.now = START + 60 * minute
        wish = watch.wish()
        watch.hear(wish)
        if watch.agreed() is Wish.CHECKPOINT:
            wishes.append(minute)
    assert wishes == [16, 32]


def test_no_checkpoint_is_due_where_none_is_asked_for() -> None:
    watch, clock = _watch(every_minutes=0)
    clock.now += 1e6
    assert watch.wish() is Wish.GO_ON


def test_training_stops_before_the_jobs_end_by_the_margin_and_the_time_an_agreement_takes() -> None:
    watch, clock = _watch(job_end=START + 1000, stop_margin_seconds=60)
    for clock.now in (START + 100, START + 120, START + 130):  # 20 s between two looks, at most
        assert watch.wish() is Wish.GO_ON
    stops = [now for now in range(int(START) + 140, int(START) + 1000, 10) if _wish_at(watch, clock, now)]
    assert stops[0] == START + 1000 - 60 - 2 * 20 + 10


def _wish_at(watch: Watch, clock: Clock, now: float) -> Wish:
    clock.now = now
    return watch.wish()


def test_a_job_without_an_end_does_not_stop() -> None:
    watch, clock = _watch(job_end=None)
    clock.now += 1e9
    watch.hear(watch.wish())
    assert watch.agreed() < Wish.STOP_IN_TIME


def test_a_signal_counts_more_than_the_time_and_what_others_want_counts_too() -> None:
    watch, clock = _watch(job_end=START + 10)
    clock.now += 5
    assert watch.wish() is Wish.STOP_IN_TIME
    watch.request.asked = True
    assert watch.wish() is Wish.STOP_ASKED
    other, _ = _watch()
    other.hear(Wish.STOP_ASKED)
    assert other.agreed() is Wish.STOP_ASKED
    assert other.agreed() is Wish.GO_ON, "it is told once"


def test_the_jobs_end_comes_from_the_job_script() -> None:
    assert job_end({}) is None
    assert job_end({"HPC_DL_JOB_END": ""}) is None
    assert job_end({"HPC_DL_JOB_END": "1764000000"}) == 1764000000
    with pytest.raises(HpcDlError, match="HPC_DL_JOB_END=noon"):
        job_end({"HPC_DL_JOB_END": "noon"})
