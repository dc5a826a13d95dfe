# SPDX-License-Identifier: Apache-2.0
"""`hpc-dl report --compare`: whether a change is real."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hpc_dl.commands import report
from hpc_dl.errors import HpcDlError
from tests.scaling import coverage, synthetic

JOBS = (0.99, 1.0, 1.01, 1.005, 0.995)


def write(folder: Path, seconds: float, jobs: Sequence[float] = JOBS, ranks: int = 4, **fields: Any) -> Path:
    for number, job in enumerate(jobs):
        head = synthetic.header(ranks, run_id=f"{folder.name}-{ranks}-{number}", **fields)
        synthetic.write(folder, head, [seconds * job * (1 + 0.01 * (window % 3)) for window in range(12)])
    return folder


def run(before: Path, after: Path, output: Path) -> dict[str, Any]:
    assert report.main(["--compare", str(before), str(after), "--output", str(output)], {}) == 0
    return dict(json.loads((output / "comparison.json").read_text()))


def test_a_real_change_is_called_real(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = write(tmp_path / "before", 0.5, settings={"exchange": {"bucket_megabytes": 25.0}})
    after = write(tmp_path / "after", 0.45, settings={"exchange": {"bucket_megabytes": 64.0}})
    plain = run(before, after, tmp_path / "out")
    assert "At 4 ranks: the change is real; after is 11.1 % faster" in capsys.readouterr().out
    assert plain["sizes"][0]["verdict"] == "faster"
    assert plain["sizes"][0]["ratio"] == pytest.approx(0.5 / 0.45)
    assert plain["changed"] == {"settings.exchange.bucket_megabytes": ["25.0", "64.0"]}
    page = (tmp_path / "out" / "comparison.md").read_text()
    assert "| settings.exchange.bucket_megabytes | 64.0 | 0 | 5 |" in page
    line = next(line for line in page.splitlines() if line.startswith("| 4 | backward |"))
    milliseconds = [float(cell) for cell in line.strip("| ").split(" | ")[2:]]
    assert milliseconds == pytest.approx([0.55 * 50.5, 0.55 * 45.45, -0.55 * 5.05], abs=0.001)


def test_slower_is_said_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(write(tmp_path / "before", 0.5), write(tmp_path / "after", 0.6), tmp_path / "out")
    assert "the change is real; after is 16.7 % slower" in capsys.readouterr().out


def test_noise_is_not_called_a_change(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = run(write(tmp_path / "before", 0.5), write(tmp_path / "after", 0.502), tmp_path / "out")
    assert "no change shown" in capsys.readouterr().out
    assert plain["sizes"][0]["verdict"] == "not shown"


def test_one_job_a_side_cannot_tell_change_from_placement(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = run(write(tmp_path / "before", 0.5, [1.0]), write(tmp_path / "after", 0.45, [1.0]), tmp_path / "out")
    printed = capsys.readouterr().out
    assert "one job on a side cannot tell the change from another placement" in printed
    assert "real" not in printed
    assert plain["sizes"][0]["covers_jobs"] is False


def test_every_common_size_is_compared(tmp_path: Path) -> None:
    for ranks in (4, 8):
        write(tmp_path / "before", 0.5, ranks=ranks)
    for ranks in (8, 16):
        write(tmp_path / "after", 0.45, ranks=ranks)
    plain = run(tmp_path / "before", tmp_path / "after", tmp_path / "out")
    assert [size["ranks"] for size in plain["sizes"]] == [8]


def test_other_work_or_no_common_size_is_refused(tmp_path: Path) -> None:
    before = write(tmp_path / "before", 0.5)
    with pytest.raises(HpcDlError, match=r"differ in model: .*MnistCnn before, mine:Model after"):
        run(before, write(tmp_path / "model", 0.5, model="mine:Model"), tmp_path / "out")
    with pytest.raises(HpcDlError, match=r"share no size: 4 ranks on 1 nodes with global batch 256 before; 8 ranks"):
        run(before, write(tmp_path / "size", 0.5, ranks=8), tmp_path / "out")


def test_the_command_wants_runs_or_two_sides(tmp_path: Path) -> None:
    for words in ([], ["some", "--compare", "a", "b"]):
        with pytest.raises(SystemExit):
            report.main(words, {})


def test_false_alarms_are_as_rare_as_five_in_a_hundred() -> None:
    assert 3 <= coverage.false_alarms(pairs=200, seed=5) <= 20
