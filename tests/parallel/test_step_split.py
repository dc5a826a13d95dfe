# SPDX-License-Identifier: Apache-2.0
"""Delays put into a real 2-rank run land in their part of the step split; `benchmarks/step_split.py` gives the figures.

Delays are long and the bounds wide here, so that a busy machine does not matter: what is tested is where they land.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.ranks import run_ranks

pytestmark = pytest.mark.parallel

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "step_split.py"


@pytest.mark.parametrize("engine", ["horovod", "torch"])
def test_each_delay_lands_in_its_part(engine: str, tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    words = [
        sys.executable,
        str(PROGRAM),
        engine,
        "--steps",
        "12",
        "--delays",
        "300",
        "300",
        "300",
        "--json",
        str(path),
    ]
    ended = run_ranks(2, words)
    assert ended.code == 0, ended.output
    rows = {row["case"]: row for row in json.loads(path.read_text())}
    assert set(rows) == {"loader", "one rank", "exchange"}
    for row in rows.values():
        assert row["found_ms"] == pytest.approx(300, rel=0.3), row
        assert row["sum_error"] < 0.02
    assert rows["one rank"]["slowest_rank"] == 1
