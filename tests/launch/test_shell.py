# SPDX-License-Identifier: Apache-2.0
"""Every shell script parses and passes shellcheck."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _is_shell(path: Path) -> bool:
    return path.is_file() and path.read_bytes()[:64].startswith((b"#!/usr/bin/env bash", b"#!/bin/bash", b"#!/bin/sh"))


SCRIPTS = sorted(
    path for folder in ("launch", "jobscripts", ".ci") for path in (ROOT / folder).rglob("*") if _is_shell(path)
)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_is_clean(script: Path) -> None:
    parsed = subprocess.run(["bash", "-n", script], capture_output=True, text=True, timeout=60)
    assert parsed.returncode == 0, parsed.stderr
    shellcheck = shutil.which("shellcheck")
    assert shellcheck, "shellcheck is not on PATH: run the tests by `make test`, or put .venv/bin first on PATH"
    checked = subprocess.run([shellcheck, script], capture_output=True, text=True, timeout=60)
    assert checked.returncode == 0, checked.stdout


def test_the_scripts_of_the_set_up_are_among_them() -> None:
    names = {path.name for path in SCRIPTS}
    assert {"setup.sh", "build_horovod.sh", "demo.sh", "run"} <= names
