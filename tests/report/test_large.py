# SPDX-License-Identifier: Apache-2.0
"""Many runs and many ranks: a report stays fast, small and readable. `python -m tests.report.large` does all of it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.report import large


def test_all_of_aurora_in_one_run(tmp_path: Path) -> None:
    cost = large.measure(large.all_of_aurora(tmp_path / "runs"), tmp_path / "out")
    assert cost.cpu_seconds < 10
    assert cost.peak_megabytes < 1024
    assert cost.page_kilobytes < 500
    plain = json.loads((tmp_path / "out" / "report.json").read_text())
    size = plain["sizes"][0]
    assert size["ranks"] == 127_488
    assert size["step_seconds"] > size["forward_seconds"] > 0
    log = tmp_path / "runs" / "aurora" / "log.jsonl"
    assert log.stat().st_size < 1_000_000


def test_two_hundred_runs_and_three(tmp_path: Path) -> None:
    cost = large.measure(large.many_runs(tmp_path / "runs", 203), tmp_path / "out")
    assert cost.cpu_seconds < 10
    assert cost.peak_megabytes < 1024
    assert cost.page_kilobytes < 500
    assert len((tmp_path / "out" / "report-runs.csv").read_text().splitlines()) == 204
    assert "3 more are in report-runs.csv" in (tmp_path / "out" / "report.html").read_text()
