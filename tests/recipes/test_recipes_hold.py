# SPDX-License-Identifier: Apache-2.0
"""Recipes keep what their docstrings promise: the small ones in full, the others at reduced size."""

from __future__ import annotations

import operator
from pathlib import Path

import pytest
import torch

from hpc_dl.recipes import RECIPES, expectation, load
from hpc_dl.runlog.records import read_run
from hpc_dl.training.imports import import_object
from tests.ranks import hpc_dl, run, run_ranks

HOLDS = {">=": operator.ge, "<=": operator.le}
FEW = ("--schedule.warmup_steps", "5", "--training.evaluate_every_epochs", "0", "--training.epochs")
RESNET = ("--data.options", '{"limit": 1000}', *FEW, "4")
FASHION = Path("/usr/share/datasets/fashion-mnist")
NEEDS_FASHION = pytest.mark.skipif(
    not FASHION.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed"
)

# What makes a recipe short, and the bound that holds then; None: the promised one.
REDUCED: dict[str, tuple[tuple[str, ...], float | None]] = {
    "ols": (("--training.steps", "1000"), None),
    "neuron": (("--training.epochs", "40"), None),
    "mlp": ((), None),
    "mnist_cnn": (("--training.epochs", "3"), 0.95),
    "vae": (("--training.epochs", "40"), 27.0),
    "gpt": (
        ("--training.steps", "40", "--schedule.warmup_steps", "5", "--data.options", '{"evaluation_windows": 32}'),
        4.6,  # knowing how often each byte occurs gives about 4.7
    ),
    "fashion_cnn": (("--data.options", '{"limit": 6000}', "--training.epochs", "2"), 0.7),
    "vgg16": (("--data.options", '{"size": 32, "limit": 4000}', *FEW, "4"), 0.4),
    "resnet18": (RESNET, 0.4),
    "resnet50": (RESNET, 0.25),
    "plain18": (RESNET, 0.4),
}
FULL_SIZE = [name for name in RECIPES if expectation(name).metric == "parameters"]
ALIKE = {"resnet34", "resnet101", "resnet152", "plain34"}
"""The same settings as another recipe but for the depth, which tests/models checks."""


def test_every_recipe_is_held_to_its_promise_somewhere() -> None:
    assert set(REDUCED) | set(FULL_SIZE) | ALIKE == set(RECIPES)
    for name in ALIKE:
        twin = {"plain34": "plain18", "resnet34": "resnet18"}.get(name, "resnet50")
        options = {**load(name).task.model_options, "depth": load(twin).task.model_options["depth"]}
        assert options == load(twin).task.model_options
        assert load(name).training == load(twin).training
        assert load(name).optimizer == load(twin).optimizer


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=NEEDS_FASHION if load(name).data.source == "hpc_dl.data.idx:load" else ())
        for name in REDUCED
    ],
)
def test_the_promised_metric_comes_out(name: str, tmp_path: Path) -> None:
    flags, bound = REDUCED[name]
    words = hpc_dl("train", name, *flags, "--log.folder", str(tmp_path / "run"), "--device.threads", "1")
    ended = run(words, timeout_seconds=600)
    assert ended.code == 0, ended.output
    assert_holds(name, tmp_path / "run", bound)


@pytest.mark.slow
@pytest.mark.parallel
@pytest.mark.parametrize("name", ["neuron", "mlp"])
def test_it_comes_out_on_two_ranks_as_well(name: str, tmp_path: Path) -> None:
    words = hpc_dl("train", name, "--log.folder", str(tmp_path / "run"))
    ended = run_ranks(2, words, timeout_seconds=600)
    assert ended.code == 0, ended.output
    assert_holds(name, tmp_path / "run", None)


def assert_holds(name: str, folder: Path, bound: float | None) -> None:
    stated = expectation(name)
    metrics = read_run(folder).evaluations[-1].metrics
    (value,) = (value for metric, value in metrics.items() if metric.rpartition(":")[2] == stated.metric)
    assert HOLDS[stated.relation](value, stated.bound if bound is None else bound), metrics


@pytest.mark.parametrize("name", FULL_SIZE)
def test_a_network_in_full_has_the_promised_parameters(name: str) -> None:
    task = load(name).task
    with torch.device("meta"):
        model = import_object(task.model, "task.model")(**task.model_options)
    assert sum(parameter.numel() for parameter in model.parameters()) == expectation(name).bound


@pytest.mark.slow
def test_resnet50_in_full_takes_a_step(tmp_path: Path) -> None:
    small = ("--training.steps", "1", "--training.local_batch", "2", "--data.options", '{"evaluation_samples": 2}')
    ended = run(hpc_dl("train", "resnet50_synthetic", *small, "--log.folder", str(tmp_path / "run")), 300)
    assert ended.code == 0, ended.output
    assert read_run(tmp_path / "run").header.parameters == 25_557_032
