# SPDX-License-Identifier: Apache-2.0
"""The Slurm of these tests: brought up once, idle before each test."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_bed import Bed, bring_up, missing


@pytest.fixture(scope="session")
def session_bed() -> Iterator[Bed]:
    reason = missing()
    if reason and os.environ.get("CI"):
        pytest.fail(f"CI must run the Slurm tests: {reason}")
    if reason:
        pytest.skip(f"no Slurm test bed: {reason}")
    with tempfile.TemporaryDirectory(prefix="slurm") as folder, bring_up(Path(folder)) as bed:
        yield bed


@pytest.fixture
def bed(session_bed: Bed) -> Bed:
    session_bed.wait_idle()
    return session_bed
