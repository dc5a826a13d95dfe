# SPDX-License-Identifier: Apache-2.0
"""A whole run with batch normalisation over ranks: same parameters as one process, and no rank left waiting."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hpc_dl.data.base import Arrays, Data
from tests.ranks import hpc_dl, run, run_ranks

pytestmark = pytest.mark.parallel

SAMPLES = 61  # the last of 6 steps has 1 sample: two of three ranks have none


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3))


def data() -> Data:
    generator = np.random.default_rng(4)
    inputs, target = generator.normal(size=(SAMPLES, 6)), generator.integers(0, 3, SAMPLES)
    return Data(Arrays(inputs, target), Arrays(inputs, target))


def words(folder: Path, *more: str) -> list[str]:
    task = "tests.training.test_sync_batchnorm_run"
    (folder.parent / "run.toml").write_text(
        f"""
        [task]
        model = "{task}:model"
        loss = "torch.nn.functional:cross_entropy"
        [data]
        source = "{task}:data"
        [training]
        epochs = 2
        global_batch = 12
        evaluate_every_epochs = 0
        [schedule]
        scaling = "none"
        [device]
        name = "cpu"
        precision = "fp64"
        sync_batchnorm = true
        [checkpoint]
        last = true
        """
    )
    return hpc_dl("train", str(folder.parent / "run.toml"), "--log.folder", str(folder), *more)


def parameters(folder: Path) -> dict[str, torch.Tensor]:
    from hpc_dl.run.checkpoint import Checkpoints

    content = Checkpoints(folder, 1).newest()
    assert content is not None
    return content["states"]["model"]


@pytest.mark.parametrize("engine", ["horovod", "torch"])
def test_three_ranks_and_one(engine: str, tmp_path: Path) -> None:
    skip_single = ("--training.drop_last", "true")  # one sample has no variance: torch refuses it on one process
    one = run([*words(tmp_path / "one", *skip_single)])
    assert one.code == 0, one.output
    three = run_ranks(3, words(tmp_path / "three", *skip_single, "--exchange.engine", engine))
    assert three.code == 0, three.output
    expected = parameters(tmp_path / "one")
    for name, value in parameters(tmp_path / "three").items():
        torch.testing.assert_close(value, expected[name], rtol=1e-9, atol=1e-9)


def test_nobody_waits_for_a_rank_without_samples(tmp_path: Path) -> None:
    ended = run_ranks(3, words(tmp_path / "run", "--training.accumulation", "4", "--training.global_batch", "13"))
    assert ended.code == 0, ended.output
    assert all(value.isfinite().all() for value in parameters(tmp_path / "run").values())
