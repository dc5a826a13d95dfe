# SPDX-License-Identifier: Apache-2.0
"""A user's login on the test bed, as fixtures hand it to tests."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slurm_bed import PROJECT, Bed

SCRIPT = PROJECT / "jobscripts" / "perlmutter.slurm"


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
