# SPDX-License-Identifier: Apache-2.0
"""The Slurm of these tests: brought up once, idle before each test. Its jobs train, or run a stand-in for training."""

from __future__ import annotations

import json
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from slurm_bed import PROJECT, Bed, bring_up, missing

SCRIPT = PROJECT / "jobscripts" / "perlmutter.slurm"


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


@dataclass
class Site:
    """A user's login on the bed: a folder to work in, and the Python its module brings."""

    bed: Bed
    folder: Path
    environ: dict[str, str]

    def submit(
        self, *options: str, train: tuple[str, ...] = (), seconds: float = 60, **extra: str
    ) -> tuple[dict[str, str], str]:
        """The finished job's fields, and its log, of jobscripts/perlmutter.slurm as it stands."""
        words = ["-A", "m1234", "-t", "6", *options, str(SCRIPT), *train]
        job_id = self.bed.submit(words, self.folder, **{**self.environ, **extra})
        fields = self.bed.wait(job_id, seconds)
        return fields, (self.folder / f"hpc_dl-{job_id}.out").read_text()

    def told(self) -> list[dict[str, Any]]:
        """What the stand-in was given, in order of rank."""
        reports = [json.loads(path.read_text()) for path in self.folder.glob("rank*.json")]
        return sorted(reports, key=lambda report: int(report["rank"]))


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
