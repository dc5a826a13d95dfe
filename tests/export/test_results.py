# SPDX-License-Identifier: Apache-2.0
"""What of a log is exported: every step once, also while the job runs and after it was resumed."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import pytest

from hpc_dl.errors import HpcDlError
from hpc_dl.export.results import _of_window, read_results
from hpc_dl.runlog.records import LOG_NAME, Window
from tests.export import logs


def values(folder: Path, name: str) -> dict[int, float]:
    return {scalar.step: scalar.value for scalar in read_results(folder).scalars if scalar.name == name}


def test_a_job_that_runs_gives_what_is_written(tmp_path: Path) -> None:
    results = read_results(logs.write(tmp_path, logs.RUNNING, half=logs.HALF))
    assert values(tmp_path, "train/loss") == {10: 0.1, 20: 0.05}
    assert values(tmp_path, "evaluation/accuracy") == {20: 0.5}
    assert values(tmp_path, "speed/step_seconds") == {10: 0.2, 20: 0.2}
    assert values(tmp_path, "speed/samples_per_second")[10] == pytest.approx(640)
    assert values(tmp_path, "phases/backward_seconds")[10] == pytest.approx(0.11)
    assert results.end == ""
    assert len(results.broken) == 1
    assert results.broken[0].startswith("line 5: not JSON")


def test_times_are_those_of_the_job(tmp_path: Path) -> None:
    results = read_results(logs.write(tmp_path, logs.LONGER))
    times = {(scalar.step, scalar.name): scalar.unix_seconds - logs.STARTED for scalar in results.scalars}
    assert times[10, "train/loss"] == 2.0
    assert times[20, "evaluation/accuracy"] == 4.5
    assert times[40, "train/loss"] == 8.5


def test_facts_are_the_header_in_rows(tmp_path: Path) -> None:
    results = read_results(logs.write(tmp_path, logs.LONGER))
    assert results.name == "digits-2"
    assert results.facts["world_size"] == 2
    assert results.facts["hosts"] == "nid000000"
    assert results.facts["settings.training.epochs"] == 3
    assert "job_id" not in results.facts
    assert results.end == "finished"


def test_of_steps_done_twice_the_later_count(tmp_path: Path) -> None:
    logs.write(tmp_path, logs.RESUMED)
    assert values(tmp_path, "speed/step_seconds") == {10: 0.2, 20: 0.2, 30: 0.2, 40: 0.4}
    assert values(tmp_path, "evaluation/accuracy") == {20: 0.5}
    begun_anew = [logs.header(started="2026-11-28T13:00:00Z"), *logs.steps(0, 1, 6.0)]
    logs.write(tmp_path, [*logs.RESUMED, *begun_anew])
    assert values(tmp_path, "speed/step_seconds") == {10: 0.6}


def test_a_job_resumed_a_moment_ago_takes_nothing_away(tmp_path: Path) -> None:
    logs.write(tmp_path, [*logs.RUNNING, logs.HEADER])
    assert len(values(tmp_path, "train/loss")) == 2


def test_terms_of_the_loss_are_taken_where_windows_have_them() -> None:
    @dataclass(frozen=True)
    class WithTerms(Window):
        terms: dict[str, float]

    window = logs.steps(0, 1)[0]
    plain = {item.name: getattr(window, item.name) for item in fields(window) if item.name != "terms"}
    found = _of_window(WithTerms(**plain, terms={"reconstruction": 3.0}))
    assert found["terms/reconstruction"] == 3.0


@pytest.mark.parametrize(
    ("records", "found"),
    [
        (logs.RUNNING[1:], "no readable header"),
        ([logs.header(started="yesterday"), *logs.steps(0, 1)], "its start, 'yesterday', is no time"),
    ],
)
def test_a_log_that_says_nothing_is_refused(tmp_path: Path, records: list, found: str) -> None:
    with pytest.raises(HpcDlError, match=found):
        read_results(logs.write(tmp_path, records))


def test_a_folder_without_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HpcDlError, match=f"no {LOG_NAME} in it"):
        read_results(tmp_path)
