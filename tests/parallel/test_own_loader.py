# SPDX-License-Identifier: Apache-2.0
"""`session.loader` gives each rank its share of any data set, and of a stream what all can have."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hpc_dl
from hpc_dl.errors import HpcDlError
from hpc_dl.settings import DeviceSettings
from tests.parallel.own_loader import BATCH, SAMPLES, Numbered
from tests.ranks import run as start
from tests.ranks import run_ranks


def looped(ranks: int, engine: str, file: Path) -> dict[str, Any]:
    words = [sys.executable, "-m", "tests.parallel.own_loader", engine, str(file)]
    ended = run_ranks(ranks, words) if ranks > 1 else start(words)
    assert ended.code == 0, ended.output
    assert ended.output.count("of a stream: 16 samples, each at most once") == 4, ended.output
    return json.loads(file.read_text())  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return looped(1, "single", tmp_path_factory.mktemp("one") / "found.json")


@pytest.mark.parallel
@pytest.mark.parametrize(("engine", "ranks"), [("torch", 2), ("horovod", 4)])
def test_all_ranks_together_take_the_samples_of_one_process(
    engine: str, ranks: int, one: dict[str, Any], tmp_path: Path
) -> None:
    found = looped(ranks, engine, tmp_path / "found.json")
    for name in ("numbered", "by workers"):
        assert found[name]["steps"] == one[name]["steps"]
        for mine, theirs in zip(found[name]["weights"], one[name]["weights"], strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-12)
    for name in ("stream", "sharded by workers"):
        epochs = found[name]["steps"][:2], found[name]["steps"][2:]
        for steps in epochs:
            used = [number for step in steps for number in step]
            assert len(used) == len(set(used)) == 16, "each at most once, and no more than all ranks have"


def test_each_sample_comes_once_in_an_epoch_and_in_another_order_in_the_next(one: dict[str, Any]) -> None:
    first, second = (list(itertools.chain(*one["numbered"]["steps"][start : start + 3])) for start in (0, 3))
    assert sorted(first) == sorted(second) == list(range(SAMPLES))
    assert one["numbered"]["steps"][0] != one["numbered"]["steps"][3]


def test_a_batch_that_leaves_ranks_without_a_sample_is_refused() -> None:
    with hpc_dl.start(device=DeviceSettings(name="cpu", threads=1)) as session:
        session.engine.world_size = 8  # type: ignore[misc]
        with pytest.raises(HpcDlError, match="the last batch has 7, and every rank needs one"):
            session.loader(Numbered(), global_batch=BATCH)
        with pytest.raises(HpcDlError, match="8 ranks, so some would have nothing to do"):
            session.loader(Numbered(), global_batch=7)
        session.engine.world_size = 1  # type: ignore[misc]
