# SPDX-License-Identifier: Apache-2.0
"""A scheduler of a few shell lines: it numbers jobs, remembers them, and says what a test wants it to say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SUBMIT = """#!/bin/bash
number=$(( $(cat "$FAKE/count" 2> /dev/null || echo 40) + 1 )); echo $number > "$FAKE/count"
[[ -f $FAKE/refuse && $number -gt $(( 40 + $(cat "$FAKE/after") )) ]] && { cat "$FAKE/refuse" >&2; exit 1; }
echo "$PWD $*" >> "$FAKE/submitted"; echo PENDING > "$FAKE/$number"
echo "$number"
"""
SHOW = """#!/bin/bash
number=${!#}
[[ -f $FAKE/$number ]] || { echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1; }
echo "JobId=$number JobState=$(cat "$FAKE/$number") Reason=Priority ExitCode=0:0"
"""
CANCEL = """#!/bin/bash
echo CANCELLED > "$FAKE/$1"
"""


@dataclass
class FakeSlurm:
    """Where the fake keeps its books, and the environment its commands are found in."""

    folder: Path
    environ: dict[str, str]

    def submitted(self) -> list[str]:
        """Folder and words of each submission."""
        path = self.folder / "submitted"
        return path.read_text().splitlines() if path.exists() else []

    def set(self, job_id: str, state: str) -> None:
        (self.folder / job_id).write_text(state)

    def forget(self, job_id: str) -> None:
        (self.folder / job_id).unlink()

    def refuse(self, message: str, after: int = 0) -> None:
        """Refuse all jobs but the first few."""
        (self.folder / "after").write_text(str(after))
        (self.folder / "refuse").write_text(message)
