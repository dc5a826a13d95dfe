# SPDX-License-Identifier: Apache-2.0
"""Metrics do not depend on how samples lie in batches and on ranks; what would depend on it is refused."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hpc_dl.comm.single import SingleEngine
from hpc_dl.errors import HpcDlError
from hpc_dl.run.checkpoint import Checkpoints
from hpc_dl.runlog.records import read_run
from hpc_dl.settings import DataSettings, DeviceSettings, LogSettings, Settings, TaskSettings, TrainingSettings
from hpc_dl.train import train
from hpc_dl.training.metrics import accuracy, find
from hpc_dl.training.objective import PairObjective
from hpc_dl.training.rehearsal import Rehearsal
from hpc_dl.training.tallies import over_ranks, tally
from tests.ranks import hpc_dl, run_ranks
from tests.training import metric_cases

HERE = "tests.training.metric_cases"
GOOD = ["accuracy", *(f"{HERE}:{n}" for n in ("counted_loss", "weighted_loss", "IoU", "Perplexity", "Module"))]


def reference(weight: np.ndarray, bias: np.ndarray) -> dict[str, float]:
    """All metrics of the evaluation data in NumPy."""
    x, y = (part.numpy() for part in metric_cases.data().evaluation.batch(np.arange(29)))
    output = x @ weight.T + bias
    counts, found = y >= 0, output.argmax(1)
    losses = np.log(np.exp(output).sum(1)) - output[np.arange(29), np.maximum(y, 0)]
    weights = np.array([0.2, 1.0, 3.0])[np.maximum(y, 0)] * counts
    unions = [((found == c) & (y == c)).sum() / ((found == c) | (y == c)).sum() for c in range(3)]
    return {
        "accuracy": (found == y).mean(),
        "counted_loss": losses[counts].mean(),
        "weighted_loss": (losses * weights).sum() / weights.sum(),
        "IoU": np.mean(unions),
        "Perplexity": np.exp(losses[counts].mean()),
        "Module": (found == y).sum() / counts.sum(),
    }


def check_run(folder: Path) -> None:
    content = Checkpoints(folder, 1).newest()
    assert content is not None
    expected = reference(content["states"]["model"]["weight"].numpy(), content["states"]["model"]["bias"].numpy())
    (evaluation,) = read_run(folder).evaluations
    assert evaluation.samples == 29
    assert evaluation.metrics == pytest.approx(expected, rel=1e-6)  # some sum in float32


def settings(folder: Path, *metrics: str) -> Settings:
    return Settings(
        task=TaskSettings(f"{HERE}:model", loss=f"{HERE}:padded_loss", metrics=list(metrics)),
        data=DataSettings(source=f"{HERE}:data"),
        training=TrainingSettings(global_batch=12, steps=3),
        device=DeviceSettings(name="cpu", threads=1, precision="fp64"),
        log=LogSettings(folder=str(folder), progress="none"),
    )


def test_every_kind_on_one_process(tmp_path: Path) -> None:
    train(settings(tmp_path, *GOOD), {})
    check_run(tmp_path)


@pytest.mark.parallel
@pytest.mark.parametrize(("engine", "ranks"), [("horovod", 2), ("torch", 3)])
def test_every_kind_on_several_ranks(engine: str, ranks: int, tmp_path: Path) -> None:
    names = ", ".join(f'"{name}"' for name in GOOD)
    (tmp_path / "run.toml").write_text(
        f"""
        [task]
        model = "{HERE}:model"
        loss = "{HERE}:padded_loss"
        metrics = [{names}]
        [data]
        source = "{HERE}:data"
        [training]
        global_batch = 12
        steps = 3
        [device]
        name = "cpu"
        precision = "fp64"
        """
    )
    words = hpc_dl("train", str(tmp_path / "run.toml"), "--log.folder", str(tmp_path / "run"))
    ended = run_ranks(ranks, [*words, "--exchange.engine", engine])
    assert ended.code == 0, ended.output
    check_run(tmp_path / "run")


REFUSED = {
    "root_mean_square": "it is no mean over samples",
    "determination": "it is no mean over samples",
    "padded_loss": r"return \(mean, weight\)",
    "Listing": "it keeps self.worst, a list",
    "Largest": "whose state are sums",
    "Nothing": r"its reset\(\) sets back no number",
    "several": "through the metric several: .*element",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_depend_on_the_number_of_ranks_is_refused_before_the_start(name: str, tmp_path: Path) -> None:
    with pytest.raises(HpcDlError, match=f"(?s){REFUSED[name]}"):
        train(settings(tmp_path, f"{HERE}:{name}"), {})
    assert not (tmp_path / "log.jsonl").exists()


def _rehearsal(data: metric_cases.Data, model: nn.Module, loss: Callable[..., torch.Tensor]) -> Rehearsal:
    return Rehearsal(data, model, PairObjective(loss), lambda batch: batch, contextlib.nullcontext)


def test_a_metric_of_another_kind_of_task_is_refused_before_the_start() -> None:
    """The default, accuracy, on a regression."""
    part = metric_cases.Arrays(torch.rand(4, 2), torch.rand(4, 1))
    data = metric_cases.Data(part, part)
    with pytest.raises(HpcDlError, match="through the metric accuracy"):
        _rehearsal(data, nn.Linear(2, 3), lambda output, target: output.mean()).evaluation(
            {"accuracy": lambda output, target: accuracy(output, target.expand(4, 7))}
        )


def test_half_precision_outputs_are_no_reason_to_refuse_a_mean() -> None:
    class Half(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x).bfloat16()

    part = metric_cases.Arrays(torch.rand(64, 9), torch.rand(64, 9))
    loss = nn.functional.mse_loss
    data = metric_cases.Data(part, part)
    _rehearsal(data, Half(9, 9), loss).evaluation({"mse": loss})


def test_a_batch_in_which_nothing_counts_adds_nothing() -> None:
    one = tally(metric_cases.counted_loss)
    output, target = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    one.add(output, target, 4)
    one.add(output, torch.full((4,), -100), 4)
    values, samples = over_ranks({"loss": one}, 8, SingleEngine())
    assert samples == 8
    assert values["loss"] == pytest.approx(float(nn.functional.cross_entropy(output, target)))


def test_two_metrics_of_one_name_keep_their_modules() -> None:
    found = find(["accuracy", "hpc_dl.training.metrics:accuracy", f"{HERE}:IoU"])
    assert list(found) == ["accuracy", "hpc_dl.training.metrics:accuracy", "IoU"]
