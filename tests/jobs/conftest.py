# SPDX-License-Identifier: Apache-2.0
"""A scheduler for tests that watch what is submitted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fake_slurm import CANCEL, SHOW, SUBMIT, FakeSlurm


@pytest.fixture
def slurm(tmp_path: Path) -> FakeSlurm:
    folder = tmp_path / "fake"
    folder.mkdir()
    for name, text in (("sbatch", SUBMIT), ("scontrol", SHOW), ("scancel", CANCEL)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return FakeSlurm(folder, {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "FAKE": str(folder)})
