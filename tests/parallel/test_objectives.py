# SPDX-License-Identifier: Apache-2.0
"""Batches of any structure and models called in any way: 1, 2 and 4 ranks arrive at the same numbers, to 1e-10."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hpc_dl.run.checkpoint import Checkpoints
from hpc_dl.runlog.records import Run, read_run
from tests.parallel import objectives
from tests.parallel.objectives import TASKS
from tests.ranks import run as start
from tests.ranks import run_ranks

pytestmark = pytest.mark.parallel

NAMES = [task.name for task in TASKS]


def states(folder: Path, name: str) -> dict[str, Tensor]:
    content = Checkpoints(folder / name, 1).newest()
    assert content is not None
    return content["states"]["model"]


def trained(ranks: int, engine: str, folder: Path) -> Path:
    words = [sys.executable, "-m", objectives.HERE, engine, str(folder)]
    ended = run_ranks(ranks, words) if ranks > 1 else start(words)
    assert ended.code == 0, ended.output
    assert "it is no mean over samples" not in ended.output
    return folder


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(1, "single", tmp_path_factory.mktemp("one"))


@pytest.fixture(scope="module", params=[("horovod", 2), ("torch", 4)], ids=str)
def several(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    engine, ranks = request.param
    return trained(ranks, engine, tmp_path_factory.mktemp("several"))


@pytest.mark.parametrize("name", NAMES)
def test_any_batch_gives_the_same_numbers_on_any_number_of_ranks(name: str, one: Path, several: Path) -> None:
    found = states(several, name)
    for key, value in states(one, name).items():
        torch.testing.assert_close(found[key], value, rtol=0, atol=1e-10)
    (expected, ours) = (read_run(folder / name) for folder in (one, several))
    assert _terms(ours) == _terms(expected)
    for evaluation, other in zip(expected.evaluations, ours.evaluations, strict=True):
        assert other.samples == evaluation.samples
        assert other.metrics == pytest.approx(evaluation.metrics, rel=1e-9)


def _terms(run: Run) -> list[dict[str, object]]:
    """Loss and terms of all windows, except for a mean of maxima, which depends on how batches are cut."""
    return [
        {
            name: pytest.approx(value, rel=1e-9)
            for name, value in {"loss": w.loss, **w.terms}.items()
            if name != "largest"
        }
        for w in run.windows
    ]


def test_an_objective_is_evaluated_by_itself_or_by_metrics_that_are_called_alike(one: Path) -> None:
    names = {name: set(read_run(one / name).evaluations[-1].metrics) for name in NAMES}
    assert names == {
        "translated": {"loss"},
        "next_token": {"guessed"},
        "equations": {"loss", "residual", "start", "border"},
        "nodes": {"loss"},  # the largest error of a batch is no mean
        "segmented": {"loss"},
    }


def test_it_is_what_a_loop_of_ones_own_gives_on_one_process(one: Path) -> None:
    """Written out once, without hpc_dl: padded sentences, a mean over tokens."""
    torch.manual_seed(0)
    model = objectives.LanguageModel().double()
    decayed, plain = [p for p in model.parameters() if p.ndim > 1], [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.0}, {"params": plain}], 0.01, eps=1e-3)
    for group in optimizer.param_groups:
        group["weight_decay"] = 0.0
    source = objectives.padded().train
    for epoch in range(2):
        order = np.arange(objectives.SAMPLES, dtype=np.uint32)
        np.random.Generator(np.random.PCG64([0, epoch])).shuffle(order)
        for first in range(0, objectives.SAMPLES, 8):
            loss, _ = objectives.next_token(model, source.batch(order[first : first + 8]))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
    for key, value in states(one, "next_token").items():
        torch.testing.assert_close(value, model.state_dict()[key], rtol=0, atol=1e-10)
