# SPDX-License-Identifier: Apache-2.0
"""The Slurm of these tests: brought up once, idle before each test. Its jobs train, or run a stand-in for training."""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_bed import PROJECT, Bed, bring_up, missing
from slurm_site import Site


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


@pytest.fixture
def site(bed: Bed, tmp_path: Path) -> Site:
    """Jobs train for real."""
    return Site(bed, tmp_path, {"HPC_DL_HOME": str(PROJECT)})


@pytest.fixture
def quick(site: Site) -> Site:
    """Jobs run the stand-in: the Python of the site's module starts it wherever a script says `hpc_dl.cli`."""
    python, stand_in = shlex.quote(sys.executable), shlex.quote(str(Path(__file__).with_name("stand_in.py")))
    wrapper = f"""#!/bin/bash
case "$1 $2 $3" in
    "-m hpc_dl.cli train") shift 3; exec {python} {stand_in} "$@" ;;
    "-m hpc_dl.cli report") echo "the report of $4" ;;
    *) exec {python} "$@" ;;
esac
"""
    (site.folder / "bin").mkdir()
    (site.folder / "bin" / "python").write_text(wrapper)
    (site.folder / "bin" / "python").chmod(0o755)
    given = {"SITE_PYTHON": str(site.folder / "bin"), "STAND_IN_FOLDER": str(site.folder)}
    return Site(site.bed, site.folder, {**site.environ, **given})
