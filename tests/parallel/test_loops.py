# SPDX-License-Identifier: Apache-2.0
"""Loops as people write them for one process arrive at the same parameters on several ranks, to 1e-10."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.parallel.loops import LOOPS
from tests.ranks import run, run_ranks

pytestmark = pytest.mark.parallel

TOLERANCES = {"lbfgs_with_a_line_search": 1e-6}


def _read(path: Path) -> dict[str, list[list[float]]]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return {row["name"]: row["ranks"] for row in rows}


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[list[float]]]:
    path = tmp_path_factory.mktemp("loops") / "one"
    ended = run([sys.executable, "-m", "tests.parallel.loops", "single", str(path)])
    assert ended.code == 0, ended.output
    return _read(path)


@pytest.fixture(scope="module", params=[("horovod", 2), ("torch", 2), ("torch", 3)])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[list[float]]]:
    engine, ranks = request.param
    path = tmp_path_factory.mktemp("loops") / "many"
    ended = run_ranks(ranks, [sys.executable, "-m", "tests.parallel.loops", engine, str(path)], timeout_seconds=300)
    assert ended.code == 0, ended.output
    return _read(path)


@pytest.mark.parametrize("name", LOOPS)
def test_a_loop_for_one_process_gives_the_same_numbers(
    name: str, reference: dict[str, list[list[float]]], found: dict[str, list[list[float]]]
) -> None:
    expected = reference[name][0]
    assert found[name][0] == pytest.approx(expected, rel=0, abs=TOLERANCES.get(name, 1e-10))
    assert all(numbers == found[name][0] for numbers in found[name])
