# SPDX-License-Identifier: Apache-2.0
"""All tests run in one world, whatever the machine around them (tests/world.py); those of Horovod need it built."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from pathlib import Path

import pytest

from tests import world


def pytest_configure(config: pytest.Config) -> None:
    # pytest has put stdout and stderr back by now; a process that starts again must find its stdin, too.
    config.pluginmanager.getplugin("capturemanager").suspend_global_capture(in_=True)
    world.restart()
    home = tempfile.TemporaryDirectory(prefix="home", dir="/tmp")
    config.add_cleanup(home.cleanup)
    world.enter(Path(home.name))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what needs Horovod where it could not be built. CI leaves nothing out."""
    if importlib.util.find_spec("horovod") or os.environ.get("CI"):
        return
    reason = "no Horovod here: HOROVOD=yes make setup says why"
    for item in items:
        parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
        named = any("horovod" in (value if isinstance(value, tuple) else (value,)) for value in parameters.values())
        if named or item.get_closest_marker("horovod"):
            item.add_marker(pytest.mark.skip(reason=reason))
