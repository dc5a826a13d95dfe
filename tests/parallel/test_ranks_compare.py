# SPDX-License-Identifier: Apache-2.0
"""Real ranks that do not mean the same are told so before they train: no wrong number, no hang."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import nn

from hpc_dl.data.base import Arrays, Data
from tests.ranks import hpc_dl, run, run_ranks

pytestmark = pytest.mark.parallel

HERE = "tests.parallel.test_ranks_compare"
DISTRIBUTE = """
    import sys, torch, hpc_dl
    from hpc_dl.settings import ExchangeSettings
    with hpc_dl.start(ExchangeSettings(engine=sys.argv[1])) as session:
        shape = (6, 4) if session.rank else (4, 6)
        model = torch.nn.Linear(*shape, bias=False)
        session.distribute(model, torch.optim.SGD(model.parameters(), 0.1))
        print("went on")
"""


def data(ragged: bool) -> Data:
    """Rank 1 sees fewer samples: an unfinished copy."""
    samples = 48 if ragged and os.environ.get("PMI_RANK") == "1" else 64
    x = torch.randn(samples, 4, generator=torch.Generator().manual_seed(0))
    return Data(Arrays(x, x[:, :1]), Arrays(x[:8], x[:8, :1]))


def model() -> nn.Module:
    return nn.Linear(4, 1)


def words(folder: Path, engine: str, ragged: bool, *more: str) -> list[str]:
    path = folder / "run.toml"
    path.write_text(
        f"""
        [task]
        model = "{HERE}:model"
        loss = "torch.nn.functional:mse_loss"
        metrics = []
        [data]
        source = "{HERE}:data"
        options = {{ ragged = {str(ragged).lower()} }}
        [training]
        global_batch = 16
        """
    )
    return hpc_dl("train", str(path), "--log.folder", str(folder / "run"), "--exchange.engine", engine, *more)


@pytest.mark.parametrize("engine", ["horovod", "torch"])
def test_models_of_other_shapes(engine: str) -> None:
    ended = run_ranks(2, DISTRIBUTE, engine, timeout_seconds=60)
    assert ended.code != 0
    assert "parameter weight is float32 (4, 6) on rank 1, float32 (6, 4) on rank 0" in ended.output
    assert "went on" not in ended.output
    assert "Traceback" not in ended.output


@pytest.mark.parametrize("engine", ["horovod", "torch"])
def test_data_of_other_lengths(engine: str, tmp_path: Path) -> None:
    ended = run_ranks(2, words(tmp_path, engine, ragged=True), timeout_seconds=60)
    assert ended.code != 0
    assert "the number of training samples is 48 on rank 1, 64 on rank 0" in ended.output
    assert "Traceback" not in ended.output
    assert not (tmp_path / "run" / "log.jsonl").exists()


def test_ranks_started_with_other_settings(tmp_path: Path) -> None:
    """One command line per rank, as mpiexec's colon and srun's --multi-prog allow."""
    from tests.ranks import BIN

    first = words(tmp_path, "torch", False)
    second = words(tmp_path, "torch", False, "--training.clip_norm", "2.0")
    ended = run([str(BIN / "mpiexec"), "-n", "1", *first, ":", "-n", "1", *second], timeout_seconds=60)
    assert ended.code != 0
    assert "training.clip_norm is 2.0 on rank 1, None on rank 0" in ended.output
