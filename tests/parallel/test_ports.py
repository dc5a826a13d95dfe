# SPDX-License-Identifier: Apache-2.0
"""The ports of examples/ports end at the numbers of the one-process scripts they were made of, to 1e-10."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hpc_dl.run.checkpoint import Checkpoints
from tests.parallel.ports import NAMES, TRAINED
from tests.ranks import run as start
from tests.ranks import run_ranks

pytestmark = [pytest.mark.parallel, pytest.mark.slow]

TOLERANCES = {"lbfgs": 1e-6}
EMA = "hpc_dl.training.hooks:Ema"
STARTS = [("single", 1), ("horovod", 2), ("torch", 4)]


def run_all(engine: str, ranks: int, folder: Path) -> Path:
    words = [sys.executable, "-m", "tests.parallel.ports", engine, str(folder)]
    ended = run_ranks(ranks, words, timeout_seconds=400) if ranks > 1 else start(words, timeout_seconds=400)
    assert ended.code == 0, ended.output
    assert ended.output.count("of a stream: 240 samples, each at most once") == 2, ended.output
    return folder


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_all("single", 1, tmp_path_factory.mktemp("one"))


@pytest.fixture(scope="module", params=STARTS, ids=str)
def ported(request: pytest.FixtureRequest, one: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    engine, ranks = request.param
    return one if ranks == 1 else run_all(engine, ranks, tmp_path_factory.mktemp("ported"))


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 1e-10) -> None:
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(
            found[key], value, rtol=0, atol=tolerance, msg=lambda text, key=key: f"{key}: {text}"
        )


@pytest.mark.parametrize("name", NAMES)
def test_a_ported_loop_ends_where_the_original_does(name: str, one: Path, ported: Path) -> None:
    expected = torch.load(one / f"{name}.before")
    for file in sorted(ported.glob(f"{name}.loop-*")):
        assert_equal(torch.load(file), expected, TOLERANCES.get(name, 1e-10))


@pytest.mark.parametrize("name", TRAINED)
def test_the_trainer_ends_where_the_original_does(name: str, one: Path, ported: Path) -> None:
    content = Checkpoints(ported / "trained" / name, 1).newest()
    assert content is not None
    found = content["states"]["model"]
    if EMA in content["states"]:
        average = content["states"][EMA]
        found = {f"model.{key}": value for key, value in found.items()}
        found |= {f"average.{key[7:]}": value for key, value in average.items() if key.startswith("module.")}
    assert_equal(found, torch.load(one / f"{name}.before"))
