# SPDX-License-Identifier: Apache-2.0
"""The world of the tests holds: nothing of the machine around comes in, and tests pass where much is exported."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

from tests import environments, world
from tests.ranks import run

SENSITIVE = (
    "tests/test_world.py",
    "tests/jobs/test_job_shell.py",
    "tests/pbs/test_pbs_jobs.py::test_modules",
    "tests/training/test_stopping.py::test_a_run_that_goes_on_behind_its_last_step_evaluates",
    "tests/doctor/test_doctor_command.py::test_two_good_ranks",
)
HOSTILE = ("login-node-of-perlmutter", "login-node-of-aurora", "locale-and-timezone", "home-with-space")


def test_the_environment_is_what_the_world_makes() -> None:
    exported = {**environments.EVERYWHERE, **environments.PERLMUTTER, **environments.AURORA}
    assert world.inherit({**exported, "USER": "me", "PYTEST_ADDOPTS": "-x"}) == {
        "USER": "me",
        "PYTEST_ADDOPTS": "-x",
        **world.MADE,
    }
    assert not set(os.environ) & (set(exported) - set(world.MADE))
    assert {name: os.environ[name] for name in world.MADE} == world.MADE
    assert not list(Path(os.environ["HOME"]).glob(".bash*"))


def test_this_process_has_forgotten_what_it_was_started_with() -> None:
    umask = os.umask(0o022)
    assert umask == 0o022
    assert time.tzname == ("UTC", "UTC")
    started_with = dict(each.split("=", 1) for each in Path("/proc/self/environ").read_text().split("\0") if each)
    loader = {name: text for name, text in started_with.items() if name.startswith("LD_")}
    assert loader == {name: text for name, text in os.environ.items() if name.startswith("LD_")}
    assert tempfile.gettempdir() == "/tmp"
    assert Path(__import__("hpc_dl").__file__).is_relative_to(world.ROOT)
    assert not [each for each in warnings.filters if each[0] == "error"], "PYTHONWARNINGS=error"


def test_a_second_mpi_is_no_library_of_ours(tmp_path: Path) -> None:
    (tmp_path / "libmpi.so.12").touch()
    assert world.inherit({"LD_LIBRARY_PATH": f"{tmp_path}:/opt/python/lib"})["LD_LIBRARY_PATH"] == "/opt/python/lib"
    assert "LD_LIBRARY_PATH" not in world.inherit({"LD_LIBRARY_PATH": str(tmp_path)})


def test_a_login_shell_of_a_bed_forgets_the_machines_own_files(tmp_path: Path) -> None:
    """Lmod's file defines `module`, and BASH_ENV, which bash reads after the login file of HOME."""
    (tmp_path / "profile").write_text(world.LOGIN_FILE)
    before = "module() { :; }; export -f module; export BASH_ENV=/x A_MODULE=1 KEPT='2 changed' PATH=/opt/site:$PATH"
    after = "type -t module; echo $BASH_ENV$A_MODULE.$KEPT.$PATH; pwd"
    given = {"KEPT": "two\nlines", "PATH": os.environ["PATH"]}
    shell = ["bash", "-c", f"{before}; source {tmp_path}/profile; {after}"]
    told = subprocess.run(shell, env=given, cwd="/usr", capture_output=True, text=True, timeout=20)
    assert (told.stdout, told.stderr) == (f".two lines.{world.SYSTEM_PATH}\n/usr\n", "")


def test_tests_pass_where_much_is_exported() -> None:
    """What looks at its surroundings most; `make check-environments` runs more, one environment after the other."""
    with environments.together(HOSTILE) as words:
        command = [*words, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *SENSITIVE]
        done = run([*command, "--deselect", "tests/test_world.py::test_tests_pass_where_much_is_exported"], 200)
    assert done.code == 0, done.output
    assert "failed" not in done.output
