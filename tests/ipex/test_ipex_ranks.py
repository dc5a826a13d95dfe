# SPDX-License-Identifier: Apache-2.0
"""IPEX on two ranks, and the way from a run with IPEX to one without."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from hpc_dl.runlog.records import read_run
from tests.ipex.ipex_task import state, words
from tests.ranks import run, run_ranks

PATIENCE_SECONDS = 300
"""IPEX alone takes seconds to import."""
LEARNING_TOLERANCE = 0.05
"""Two runs drift apart by the noise of bf16 gradients (8 bits); seen: 0.02, while losses fall from 2.3 to 0.2."""
FORWARD_TOLERANCE = 0.01
"""One forward pass from the same parameters, in bf16 by other kernels."""


def step_losses(folder: Path) -> dict[int, float]:
    return {window.first_step: window.loss for window in read_run(folder).windows}


def losses(folder: Path) -> list[float]:
    """Mean losses of the last 20 of 50 steps, five at a time."""
    steps = step_losses(folder)
    assert sorted(steps) == list(range(50))
    return [sum(steps[number] for number in range(first, first + 5)) / 5 for first in range(30, 50, 5)]


@pytest.fixture(scope="module", params=["sgd", "adamw"])
def one_process(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """The optimizer, and the folder of a run with IPEX on one process."""
    folder = tmp_path_factory.mktemp("one") / "run"
    ended = run([*words(folder, *optimizer(request.param)), "--device.ipex", "true"], PATIENCE_SECONDS)
    assert ended.code == 0, ended.output
    return request.param, folder


def optimizer(name: str) -> list[str]:
    return ["--optimizer.name", name, "--optimizer.learning_rate", {"sgd": "0.05", "adamw": "0.002"}[name]]


@pytest.mark.parametrize("engine", ["horovod", "torch"])
def test_two_ranks_agree_to_the_bit_and_learn_like_one(
    engine: str, one_process: tuple[str, Path], tmp_path: Path
) -> None:
    name, reference = one_process
    folder = tmp_path / "run"
    more = (*optimizer(name), "--device.ipex", "true", "--exchange.engine", engine)
    ended = run_ranks(2, words(folder, *more), timeout_seconds=PATIENCE_SECONDS)
    assert ended.code == 0, ended.output
    first, second = state(folder, 0), state(folder, 1)
    for key, value in first.items():
        assert value.dtype == torch.float32
        assert torch.equal(value, second[key]), key
    assert losses(folder) == pytest.approx(losses(reference), abs=LEARNING_TOLERANCE)
    assert losses(folder)[-1] < 0.5 < 2.0 < read_run(folder).windows[0].loss


def test_a_checkpoint_with_ipex_is_continued_without(one_process: tuple[str, Path], tmp_path: Path) -> None:
    name, reference = one_process
    folder = tmp_path / "run"
    ended = run([*words(folder, *optimizer(name), "--training.steps", "25"), "--device.ipex", "true"], PATIENCE_SECONDS)
    assert ended.code == 0, ended.output
    ended = run([*words(folder, *optimizer(name)), "--checkpoint.resume", "must"], PATIENCE_SECONDS)
    assert ended.code == 0, ended.output
    assert step_losses(folder)[25] == pytest.approx(step_losses(reference)[25], rel=FORWARD_TOLERANCE)
    assert losses(folder) == pytest.approx(losses(reference), abs=LEARNING_TOLERANCE)


def test_a_checkpoint_without_ipex_is_continued_with(one_process: tuple[str, Path], tmp_path: Path) -> None:
    name, reference = one_process
    folder, straight = tmp_path / "run", tmp_path / "straight"
    ended = run([*words(folder, *optimizer(name), "--training.steps", "25")], PATIENCE_SECONDS)
    assert ended.code == 0, ended.output
    shutil.copytree(folder, straight)
    ended = run(
        [*words(folder, *optimizer(name)), "--device.ipex", "true", "--checkpoint.resume", "must"], PATIENCE_SECONDS
    )
    assert ended.code == 0, ended.output
    ended = run(
        [*words(straight, *optimizer(name), "--training.steps", "26", "--checkpoint.resume", "must")], PATIENCE_SECONDS
    )
    assert ended.code == 0, ended.output
    assert step_losses(folder)[25] == pytest.approx(step_losses(straight)[25], rel=FORWARD_TOLERANCE)
    assert losses(folder) == pytest.approx(losses(reference), abs=LEARNING_TOLERANCE)


def test_evaluation_counts_the_same_digits_right(one_process: tuple[str, Path], tmp_path: Path) -> None:
    """The metric a run with IPEX reports is that of its state in a network without IPEX."""
    name, _ = one_process
    folder = tmp_path / "run"
    ended = run([*words(folder, *optimizer(name)), "--device.ipex", "true"], PATIENCE_SECONDS)
    assert ended.code == 0, ended.output
    from hpc_dl.data.digits import load
    from tests.ipex.ipex_task import network

    model = network()
    model.load_state_dict(state(folder))
    model.eval()
    samples = load().evaluation
    inputs, target = samples.batch(range(len(samples)))  # type: ignore[arg-type]
    with torch.no_grad():
        right = (model(inputs).argmax(1) == target).double().mean().item()
    evaluation = read_run(folder).evaluations[-1]
    assert evaluation.samples == len(samples)
    assert evaluation.metrics["accuracy"] == pytest.approx(right, abs=2 / len(samples))
    assert right > 0.8
