# SPDX-License-Identifier: Apache-2.0
"""A user's seat on the stand-in's login node: run commands there, wait for jobs."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from standin.site import Site


class Login:
    """Commands are run with the login node's PATH in a working directory of their own."""

    def __init__(self, site: Site, directory: Path, environ: Mapping[str, str] = os.environ) -> None:
        self.site, self.directory = site, directory
        self.environ = {**environ, "PATH": f"{site.login_bin}:{environ['PATH']}", "LOGNAME": "scientist"}

    def run(self, *words: str, stdin: str = "", seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command and return what it said."""
        return subprocess.run(
            words,
            input=stdin,
            capture_output=True,
            text=True,
            cwd=self.directory,
            env=self.environ,
            timeout=seconds,
            check=False,
        )

    def submit(self, *words: str, script: str = "") -> str:
        """qsub that must succeed; returns the job's id."""
        done = self.run("qsub", *words, stdin=script)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def wait(self, name: str, states: str = "F", seconds: float = 60) -> dict[str, Any]:
        """The job's record once it is in one of the states."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            job = self.site.job(name)
            if job and job["state"] in states and not (job["state"] == "R" and "start_time" not in job):
                return job
            time.sleep(0.05)
        log = self.site.folder / "spool" / f"{name.split('.')[0]}.mom.log"
        raise TimeoutError(f"{name} is not in {states}: {self.site.job(name)}\n{log.read_text()}")

    def wait_for_comment(self, name: str, seconds: float = 10) -> str:
        """Why a job is not running, once the scheduler has said so."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if comment := (self.site.job(name) or {}).get("comment", ""):
                return str(comment)
            time.sleep(0.05)
        raise TimeoutError(f"no comment on {name}")

    def leave(self) -> None:
        """Delete what still waits or runs, and see it gone."""
        for name, job in self.site.jobs().items():
            if job["state"] != "F":
                self.run("qdel", name)
                self.wait(name)
