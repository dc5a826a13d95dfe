# SPDX-License-Identifier: Apache-2.0
"""All tests run in one world, whatever the machine around them (tests/world.py)."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tests import world


def pytest_configure(config: pytest.Config) -> None:
    home = tempfile.TemporaryDirectory(prefix="home", dir="/tmp")
    config.add_cleanup(home.cleanup)
    world.enter(Path(home.name))
