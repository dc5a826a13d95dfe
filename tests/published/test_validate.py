# SPDX-License-Identifier: Apache-2.0
"""The model of published results: no system tests itself, and the promises of docs/predict.md hold."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.published import cases
from benchmarks.published import table as published
from benchmarks.published.__main__ import main
from benchmarks.published.anchored import judge_anchored
from benchmarks.published.cases import Case
from benchmarks.published.misses import effective_size, from_loss, gather, loss
from benchmarks.published.population import CONSTANTS, Features, efficiency, fit
from benchmarks.published.protocol import as_text, validate_table
from benchmarks.published.validate import judge, split, summaries, worst
from hpc_dl.errors import HpcDlError


@pytest.fixture(scope="module")
def shipped() -> tuple[Case, ...]:
    return cases.build(published.shipped()).cases


def test_the_shipped_table_is_predicted_as_well_as_the_documentation_says(shipped: tuple[Case, ...]) -> None:
    judged = judge(shipped)
    everything = summaries(judged)["all"]
    assert everything.cases >= 230
    assert everything.median_error <= 0.08
    assert 0.85 <= everything.coverage <= 0.95
    assert everything.error_90 < everything.constant_error_90 * 0.75, "better than a model that knows nothing"
    assert len(worst(judged)) == 10


def test_the_next_size_is_predicted_far_better(shipped: tuple[Case, ...]) -> None:
    summary = summaries(judge_anchored(shipped))["all"]
    assert summary.median_error <= 0.03
    assert 0.85 <= summary.coverage <= 0.95


def test_the_answers_of_a_system_do_not_depend_on_its_own_rows(shipped: tuple[Case, ...]) -> None:
    """Falsify every efficiency of one system: what is predicted for it must stay as it was."""
    key = shipped[0].hardware.key
    false = [replace(case, efficiency=0.2) if case.hardware.key == key else case for case in shipped]
    before, after = (
        [one.predicted for one in judge(table, folds=4) if one.case.hardware.key == key] for table in (shipped, false)
    )
    assert before == after


def test_folds_hold_whole_systems_and_every_case_once() -> None:
    keys = ["a"] * 5 + ["b"] * 3 + ["c"] * 2 + ["d"]
    groups = split(keys, 3)
    assert sorted(key for group in groups for key in group) == ["a", "b", "c", "d"]
    assert [sum(keys.count(key) for key in group) for group in groups] == [5, 3, 3]


def test_compute_alone_reproduces_the_published_step(shipped: tuple[Case, ...]) -> None:
    """Predicting a baseline from itself gives efficiency 1, whatever the constants."""
    same = [replace(case, target=case.base) for case in shipped]
    logs = np.log([constant.centre for constant in CONSTANTS])
    assert efficiency(logs, Features.of(same)) == pytest.approx(1.0)


def test_known_constants_are_recovered_from_made_up_systems(shipped: tuple[Case, ...]) -> None:
    """Efficiencies made with shares of 0.3 (TCP) and 0.7 (RDMA) of nominal rates lead back to them."""
    true = np.log([constant.centre for constant in CONSTANTS])
    true[:2] = np.log([0.3, 0.7])
    made = efficiency(true, Features.of(shipped))
    fitted = fit(tuple(replace(case, efficiency=float(value)) for case, value in zip(shipped, made, strict=True)))
    assert np.exp(fitted[:2]) == pytest.approx([0.3, 0.7], rel=0.15)


def test_a_table_with_too_few_systems_is_refused(shipped: tuple[Case, ...]) -> None:
    few = [case for case in shipped if case.hardware.key in ("Cori KNL", "LUMI", "CSC Mahti")]
    with pytest.raises(HpcDlError, match="fewer than three systems"):
        judge(few)


def test_intervals_cover_an_unseen_system_as_often_as_they_say() -> None:
    """Made-up systems whose rows miss together: the next system's rows are inside in about nine cases of ten."""
    generator = np.random.default_rng(3)
    inside = []
    for _ in range(60):
        shifts = generator.normal(0, 0.5, 21)
        rows = {str(k): np.exp(shifts[k] + generator.normal(0, 0.3, 8)).tolist() for k in range(20)}
        low, high = gather(rows).interval(np.array([0.8]))
        truth = from_loss(loss(0.8) * np.exp(shifts[20] + generator.normal(0, 0.3, 50)))
        inside.append(np.mean((truth >= low) & (truth <= high)))
    assert 0.86 <= np.mean(inside) <= 0.95


def test_rows_that_miss_together_count_as_few() -> None:
    generator = np.random.default_rng(4)
    independent = [generator.normal(size=10) for _ in range(30)]
    together = [np.full(10, generator.normal()) + 1e-3 * generator.normal(size=10) for _ in range(30)]
    assert effective_size(independent) > 150
    assert effective_size(together) == pytest.approx(30, rel=0.05)


def test_the_text_names_what_was_left_out() -> None:
    text = as_text(validate_table(None, folds=5))
    assert "agpt-80b-sunspot" in text
    assert "| all | 235 |" in text


def test_the_command_validates_a_table_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "mine.csv"
    table.write_text(
        "group,row,system,model,software,precision; local batch; mode,points\n"
        "G,one,LUMI MI250X,ResNet-50,PyTorch DDP,fp32; 64; weak,[img/s] 1: 500; 8: 3800; 16: 7500\n"
        "G,two,Frontier,ResNet-50,PyTorch DDP,fp32; 64; weak,[img/s] 8: 3800; 64: 29000\n"
    )
    assert main([str(table), "--output", str(tmp_path / "v.json")]) == 0
    assert "| all | 3 | 2 |" in capsys.readouterr().out
    points = json.loads((tmp_path / "v.json").read_text())["unseen_system"]["points"]
    assert all(point["low"] <= point["published"] <= point["high"] for point in points)


def test_the_command_refuses_a_missing_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none.csv")]) == 2
    assert "no such file" in capsys.readouterr().err
