# SPDX-License-Identifier: Apache-2.0
"""The set-up: what it does when something is missing, and that it does nothing when nothing changed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ("bash", "sh", "env", "dirname", "find", "head", "sed", "basename", "mktemp", "rm", "cat", "uname", "tr")
COMPILER = shutil.which("g++") or shutil.which("c++") or shutil.which("clang++")


def _run(*command: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=120, env=os.environ | environ
    )


def test_without_a_compiler_the_build_says_so_and_ends_with_3(tmp_path: Path) -> None:
    for tool in TOOLS:
        (tmp_path / tool).symlink_to(shutil.which(tool) or tool)
    script = ROOT / "launch/build_horovod.sh"
    found = _run(script, "cpu", PATH=str(tmp_path), PYTHON=sys.executable, XDG_CACHE_HOME=str(tmp_path))
    assert found.returncode == 3, found.stderr
    assert "no C++" in found.stderr
    assert "apt install g++" in found.stderr
    assert not list(tmp_path.rglob("*.whl"))


def test_a_compiler_too_old_for_torch_counts_as_none(tmp_path: Path) -> None:
    old = tmp_path / "g++"
    old.write_text('#!/bin/sh\ncase "$1" in -std=*) echo "unknown standard $1" >&2; exit 1;; esac\n')
    old.chmod(0o755)
    script = ROOT / "launch/build_horovod.sh"
    found = _run(script, CXX=str(old), PYTHON=sys.executable, XDG_CACHE_HOME=str(tmp_path))
    assert found.returncode == 3
    assert str(old) in found.stderr


def test_a_wrong_variant_is_answered_with_the_right_ones() -> None:
    found = _run(ROOT / "launch/build_horovod.sh", "gpu", PYTHON=sys.executable)
    assert found.returncode == 2
    assert "'gpu' is no variant of the build: give one of cpu, nccl" in found.stderr


def test_an_environment_without_torch_is_named(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True, timeout=60)
    found = _run(ROOT / "launch/build_horovod.sh", PYTHON=str(tmp_path / "bare/bin/python"))
    assert found.returncode == 2
    assert f"torch is not installed in {tmp_path}/bare" in found.stderr


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what the set-up reads, with a stand-in for the environment's Python that notes each call."""
    for name in ("constraints.txt", "setup.cfg", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "launch", tmp_path / "launch", ignore=shutil.ignore_patterns("__pycache__"))
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\necho "$@" >>"{tmp_path}/calls"\n[ ! -e "{tmp_path}/broken" ]\n')
    python.chmod(0o755)
    return tmp_path


def _installs(tree: Path) -> int:
    """Runs the set-up without Horovod; how many times pip installed something."""
    (tree / "calls").write_text("")
    _run(tree / "launch/setup.sh", HOROVOD="no", PYTHON="/nowhere/python3")
    return (tree / "calls").read_text().count("pip install")


def test_the_second_time_nothing_is_done(tree: Path) -> None:
    assert _installs(tree) == 2
    assert (tree / "calls").read_text().index("torch") < (tree / "calls").read_text().index("[dev]")
    assert _installs(tree) == 0


@pytest.mark.parametrize("name", ["constraints.txt", "setup.cfg", "launch/horovod/torch.cmake"])
def test_a_changed_file_is_noticed(tree: Path, name: str) -> None:
    _installs(tree)
    with (tree / name).open("a") as file:
        file.write("# changed\n")
    assert _installs(tree) == 2


def test_a_set_up_that_was_interrupted_is_done_again(tree: Path) -> None:
    _installs(tree)
    with (tree / "setup.cfg").open("a") as file:
        file.write("# changed\n")
    script = (tree / "launch/setup.sh").read_text()
    (tree / "launch/setup.sh").write_text(script.replace("install --no-build-isolation", "exit 1\ninstall"))
    _installs(tree)
    (tree / "launch/setup.sh").write_text(script)
    assert _installs(tree) == 2


def test_no_python_that_is_new_enough_is_said(tree: Path) -> None:
    (tree / "broken").touch()
    found = _run(tree / "launch/setup.sh", PYTHON="/nowhere/python3")
    assert found.returncode == 2
    assert "no Python 3.10 or newer" in found.stderr


@pytest.mark.skipif(
    COMPILER is None, reason="without a C++ compiler there is no Horovod here: install g++, then make test"
)
def test_horovod_and_mpi4py_load_one_mpi_and_it_is_this_environments() -> None:
    program = (
        "import horovod.torch as hvd; from mpi4py import MPI; hvd.init()\n"
        "print('\\n'.join({line.split()[-1] for line in open('/proc/self/maps') if 'libmpi' in line}))\n"
    )
    found = _run(sys.executable, "-c", program)
    assert found.returncode == 0, found.stderr
    (library,) = found.stdout.split()
    assert Path(library).is_relative_to(sys.prefix)
