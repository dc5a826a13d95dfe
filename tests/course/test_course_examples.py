# SPDX-License-Identifier: Apache-2.0
"""The examples of the course's last chapter and of docs/data.md run, on one rank and on two."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from hpc_dl.runlog.records import read_run
from tests.ranks import clean_environment, hpc_dl, run, run_ranks

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.slow
@pytest.mark.parallel
def test_the_script_gives_the_same_losses_on_any_number_of_ranks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    script = [sys.executable, str(EXAMPLES / "to_many_nodes" / "many_ranks.py")]
    losses = {}
    for ranks in (1, 3):
        ended = run_ranks(ranks, script, timeout_seconds=300)
        assert ended.code == 0, ended.output
        losses[ranks] = [float(loss) for loss in re.findall(r"training loss ([\d.]+)", ended.output)]
    assert len(losses[1]) == 20
    assert losses[3] == pytest.approx(losses[1], abs=2e-6)
    alone = run([sys.executable, str(EXAMPLES / "to_many_nodes" / "one_process.py")], 300)
    (before,) = re.findall(r"epoch 19: training loss ([\d.]+)", alone.output)
    assert losses[1][-1] == pytest.approx(float(before), rel=0.05)  # another order of samples, the same training


@pytest.fixture(scope="module")
def example_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("examples")
    made = run([sys.executable, str(EXAMPLES / "your_data" / "make.py"), str(folder / "example_data")], 300)
    assert made.code == 0, made.output
    return folder


@pytest.mark.slow
@pytest.mark.parallel
@pytest.mark.parametrize("form", sorted(path.stem for path in (EXAMPLES / "your_data").glob("*.toml")))
def test_your_data_in_every_form(form: str, example_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(example_data)
    folder = example_data / f"run-{form}"
    words = hpc_dl("train", str(EXAMPLES / "your_data" / f"{form}.toml"), "--log.folder", str(folder))
    environ = clean_environment(PYTHONPATH=str(EXAMPLES / "your_data"))
    few = ("--training.steps", "10") if form == "tokens" else ("--training.epochs", "4")
    ended = run_ranks(2, [*words, *few], timeout_seconds=400, environ=environ)
    assert ended.code == 0, ended.output
    metrics = read_run(folder).evaluations[-1].metrics
    assert metrics["accuracy"] > 0.8 if form != "tokens" else next(iter(metrics.values())) < 7.5
