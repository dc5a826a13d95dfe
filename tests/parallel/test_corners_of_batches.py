# SPDX-License-Identifier: Apache-2.0
"""Last batches so small that a rank has one sample or none: right numbers, or a refusal before the first step."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from hpc_dl.data.base import Arrays, Data
from hpc_dl.data.sharding import Plan
from hpc_dl.run.checkpoint import Checkpoints
from tests.ranks import hpc_dl, run, run_ranks

pytestmark = pytest.mark.parallel

HERE = "tests.parallel.test_corners_of_batches"
RATE, EPOCHS = 0.1, 2


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 2))


def data(samples: int) -> Data:
    x = torch.randn(samples, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = torch.stack([x.sum(1), x[:, 0] * x[:, 1]], dim=1)
    return Data(Arrays(x, y), Arrays(x[:8], y[:8]))


def relative_error(output: Tensor, target: Tensor) -> Tensor:
    """The loss of neural operators: nothing in place of a sample would be 0/0."""
    return ((output - target).norm(dim=1) / target.norm(dim=1)).mean()


def words(folder: Path, samples: int, batch: int, *more: str) -> list[str]:
    path = folder.parent / "run.toml"
    path.write_text(
        f"""
        [task]
        model = "{HERE}:model"
        loss = "{HERE}:relative_error"
        metrics = []
        [data]
        source = "{HERE}:data"
        options = {{ samples = {samples} }}
        [training]
        epochs = {EPOCHS}
        global_batch = {batch}
        [optimizer]
        learning_rate = {RATE}
        momentum = 0.0
        [device]
        name = "cpu"
        precision = "fp64"
        threads = 1
        [log]
        progress = "none"
        """
    )
    return hpc_dl("train", str(path), "--log.folder", str(folder), *more)


def trained(folder: Path) -> dict[str, Tensor]:
    content = Checkpoints(folder, 1).newest()
    assert content is not None
    return content["states"]["model"]


def by_hand(samples: int, batch: int, shares: dict[int, list[int]]) -> dict[str, Tensor]:
    """Plain torch: two copies, each normalising over its own samples; their gradients and statistics averaged.

    Args:
        shares: Samples of either copy, by the number of samples of a step.
    """
    torch.manual_seed(0)
    copies = [model().double()]
    copies.append(copy.deepcopy(copies[0]))
    source = data(samples).train
    plan = Plan(samples=samples, global_batch=batch)
    for step in range(EPOCHS * plan.steps_per_epoch):
        indices, together = plan.batch(*divmod(step, plan.steps_per_epoch))
        x, y = source.batch(indices)
        gradients = [torch.zeros_like(p) for p in copies[0].parameters()]
        for mine, some_x, some_y in zip(copies, x.split(shares[together]), y.split(shares[together]), strict=True):
            if len(some_x):
                loss = relative_error(mine(some_x), some_y) * len(some_x) / together
                parts = torch.autograd.grad(loss, list(mine.parameters()))
                gradients = [total + part for total, part in zip(gradients, parts, strict=True)]
        for mine in copies:
            for parameter, gradient in zip(mine.parameters(), gradients, strict=True):
                parameter.data -= RATE * gradient
    return {
        name: (value.double() + copies[1].state_dict()[name].double()) / 2
        for name, value in copies[0].state_dict().items()
        if value.is_floating_point()
    }


@pytest.mark.parametrize("engine", ["horovod", "torch"])
def test_a_last_batch_of_one_sample_a_rank_goes_to_one_rank(engine: str, tmp_path: Path) -> None:
    """34 samples in batches of 16: the last has 2. Batch normalisation over one sample does not exist."""
    ended = run_ranks(2, words(tmp_path / "run", 34, 16, "--exchange.engine", engine))
    assert ended.code == 0, ended.output
    state = trained(tmp_path / "run")
    for name, value in by_hand(34, 16, {16: [8, 8], 2: [2, 0]}).items():
        if "running" not in name:  # the mean at the end of each epoch goes to both
            torch.testing.assert_close(state[name], value, rtol=1e-10, atol=1e-10)


def test_micro_steps_do_not_fall_below_two_samples(tmp_path: Path) -> None:
    """The last batch has 5 samples, 3 and 2 of them on a rank: one part each, where others have two."""
    ended = run_ranks(2, words(tmp_path / "run", 37, 16, "--training.accumulation", "2"))
    assert ended.code == 0, ended.output
    assert all(value.isfinite().all() for value in trained(tmp_path / "run").values())


@pytest.mark.parametrize(
    ("samples", "batch", "more", "sentence"),
    [
        (33, 16, (), "the last one has 1 sample, and the model needs 2 to train on"),
        (32, 2, (), "some get 1 sample, and the model needs 2 to train on"),
        (32, 16, ("--training.accumulation", "8"), "a part of a batch has 1 sample"),
    ],
)
def test_what_cannot_be_trained_on_is_said_before_anything_is_written(
    samples: int, batch: int, more: tuple[str, ...], sentence: str, tmp_path: Path
) -> None:
    ended = run_ranks(2, words(tmp_path / "run", samples, batch, *more))
    assert ended.code != 0
    assert sentence in ended.output
    assert "Traceback" not in ended.output
    assert not (tmp_path / "run" / "log.jsonl").exists()


@pytest.mark.parametrize("engine", ["horovod", "torch"])
def test_a_rank_without_samples_normalises_along_and_adds_nothing(engine: str, tmp_path: Path) -> None:
    """The last of 3 steps has 2 samples on 3 ranks; the loss is relative. Same numbers as one process."""
    one = run(words(tmp_path / "one", 32, 15))
    assert one.code == 0, one.output
    sync = ("--device.sync_batchnorm", "true", "--exchange.engine", engine)
    three = run_ranks(3, words(tmp_path / "three", 32, 15, *sync))
    assert three.code == 0, three.output
    state = trained(tmp_path / "three")
    for name, value in trained(tmp_path / "one").items():
        torch.testing.assert_close(state[name], value, rtol=1e-9, atol=1e-9)
