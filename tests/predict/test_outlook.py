# SPDX-License-Identifier: Apache-2.0
"""Prediction in a report: a band beyond the measured sizes, or the reason why there is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hpc_dl.commands import report
from hpc_dl.predict.outlook import look_ahead
from hpc_dl.scaling.runs import collect
from tests.report import sample
from tests.scaling import synthetic


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sample.write_study(tmp_path_factory.mktemp("sample"))


def test_larger_sizes_are_predicted_and_drawn(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report.main([str(study), "--output", str(tmp_path)], {})
    plain = json.loads((tmp_path / "report.json").read_text())
    assert [ahead["ranks"] for ahead in plain["predicted"]] == [128, 256, 512, 1024]
    check, *beyond = plain["predicted"]
    assert check["efficiency"] == pytest.approx(plain["sizes"][-1]["efficiency"], abs=0.08)
    assert all(ahead["efficiency_low"] <= ahead["efficiency"] <= ahead["efficiency_high"] for ahead in beyond)
    page = (tmp_path / "report.html").read_text()
    assert "predicted, 90 %" in page
    assert "Beyond the measured sizes" in page
    assert "are predicted" in capsys.readouterr().out


def test_a_prediction_refers_to_the_baseline_of_the_report(study: Path, tmp_path: Path) -> None:
    for name, baseline in (("a", "smallest"), ("b", "resnet50-016-0")):
        report.main([str(study), "--output", str(tmp_path / name), "--baseline", baseline], {})
    plain = [json.loads((tmp_path / name / "report.json").read_text()) for name in "ab"]
    ratios = [a["efficiency"] / b["efficiency"] for a, b in zip(plain[0]["sizes"], plain[1]["sizes"], strict=True)]
    for a, b in zip(plain[0]["predicted"], plain[1]["predicted"], strict=True):
        assert a["efficiency"] / b["efficiency"] == pytest.approx(ratios[0])


def test_a_prediction_can_be_left_out(study: Path, tmp_path: Path) -> None:
    report.main([str(study), "--output", str(tmp_path), "--no-prediction"], {})
    assert "Beyond the measured sizes" not in (tmp_path / "report.md").read_text()
    assert json.loads((tmp_path / "report.json").read_text())["predicted"] == []


def test_a_machine_record_bounds_the_sizes(study: Path) -> None:
    runs = collect([study]).runs
    assert [ahead.nodes for ahead in look_ahead(runs, "perlmutter").points] == [32, 64, 128, 256]


def test_what_cannot_be_predicted_is_said(tmp_path: Path) -> None:
    for ranks in (1, 2, 4):
        synthetic.write(tmp_path / "node", synthetic.header(ranks), [0.5] * 12)
    report.main([str(tmp_path / "node"), "--output", str(tmp_path / "out")], {})
    assert "No prediction: no run left its node" in (tmp_path / "out" / "report.md").read_text()
    for ranks in (4, 8):
        synthetic.write(tmp_path / "two", synthetic.header(ranks), [0.5] * 12)
    report.main([str(tmp_path / "two"), "--output", str(tmp_path / "out")], {})
    assert "No prediction: runs of 2 sizes" in (tmp_path / "out" / "report.md").read_text()
