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


def numbers_of(program: str, engine: str, ranks: int, folder: Path) -> dict[str, list[list[float]]]:
    """What a program's loops arrive at on every rank, by name."""
    path = folder / "numbers"
    if ranks == 1:
        ended = run([sys.executable, "-m", program, engine, str(path)])
    else:
        ended = run_ranks(ranks, [sys.executable, "-m", program, engine, str(path)], timeout_seconds=300)
    assert ended.code == 0, ended.output
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return {row["name"]: row["ranks"] for row in rows}


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[list[float]]]:
    return numbers_of("tests.parallel.loops", "single", 1, tmp_path_factory.mktemp("loops"))


@pytest.fixture(scope="module", params=[("horovod", 2), ("torch", 2), ("torch", 3)])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[list[float]]]:
    return numbers_of("tests.parallel.loops", *request.param, tmp_path_factory.mktemp("loops"))


@pytest.mark.parametrize("name", LOOPS)
def test_a_loop_for_one_process_gives_the_same_numbers(
    name: str, reference: dict[str, list[list[float]]], found: dict[str, list[list[float]]]
) -> None:
    expected = reference[name][0]
    assert found[name][0] == pytest.approx(expected, rel=0, abs=TOLERANCES.get(name, 1e-10))
    assert all(numbers == found[name][0] for numbers in found[name])
