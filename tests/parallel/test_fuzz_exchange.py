# SPDX-License-Identifier: Apache-2.0
"""A hundred random trainings end on 2 and 3 ranks where one process ends (`python -m tests.parallel.fuzz 500`)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.parallel.fuzz import differences

pytestmark = [pytest.mark.parallel, pytest.mark.slow]


def test_random_trainings_end_where_one_process_ends(tmp_path: Path) -> None:
    assert differences(range(100), tmp_path) == []
