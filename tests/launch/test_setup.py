# SPDX-License-Identifier: Apache-2.0
"""The set-up: what it does when something is missing, and that it does nothing when nothing changed."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ("bash", "sh", "env", "dirname", "find", "head", "sed", "basename", "mktemp", "rm", "cat", "uname", "tr")
COMPILER = shutil.which("g++") or shutil.which("c++") or shutil.which("clang++")


def _run(*command: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=120, env=os.environ | {"CI": ""} | environ
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


# Stands for the environment's Python: notes each call, and fails where a test says so.
PYTHON = """#!/bin/sh
echo "$@" >>"{tree}/calls"
case "$*" in
    *facts.py*) [ ! -e "{tree}/no-build" ] || {{ cat "{tree}/no-build" >&2; exit 1; }} ;;
    *"[dev]"*) [ ! -e "{tree}/interrupted" ] || exit 1 ;;
    "-m venv "*) mkdir -p "$4/bin"; cp "$0" "$4/bin/python" ;;
esac
[ ! -e "{tree}/broken" ]
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what the set-up reads, with a stand-in for the environment's Python."""
    for name in ("constraints.txt", "setup.cfg", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "launch", tmp_path / "launch", ignore=shutil.ignore_patterns("__pycache__"))
    _program(tmp_path / ".venv/bin/python", PYTHON.format(tree=tmp_path))
    return tmp_path


def _program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def _installs(tree: Path) -> int:
    """Runs the set-up without Horovod; how many times pip installed something."""
    (tree / "calls").write_text("")
    _run(tree / "launch/setup.sh", HOROVOD="no")
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
    (tree / "interrupted").touch()
    assert _installs(tree) == 2
    (tree / "interrupted").unlink()
    assert _installs(tree) == 2
    assert _installs(tree) == 0


def test_without_horovod_the_set_up_goes_on_and_says_why_in_two_lines_each_time(tree: Path) -> None:
    reason = "the build failed: a.h:3: error: no (all of it: /logs/build.log)"
    (tree / "no-build").write_text(f"build_horovod.sh: {reason}\n")
    for _ in range(2):
        found = _run(tree / "launch/setup.sh")
        assert found.returncode == 0
        why, instead = found.stdout.splitlines()[-2:]
        assert why == f"setup.sh: no Horovod: {reason}"
        assert "engine torch" in instead
        assert "HOROVOD=yes make setup" in instead


def test_a_build_that_was_interrupted_leaves_no_stamp(tree: Path) -> None:
    """pip catches the signal and ends with an ordinary error; the set-up must not take that for a failed build."""
    _program(tree / "launch/build_horovod.sh", "#!/bin/sh\ntrap 'exit 1' INT\ntouch building\nsleep 20 & wait\n")
    words = [tree / "launch/setup.sh"]
    environ = os.environ | {"CI": ""}
    with subprocess.Popen(words, env=environ, start_new_session=True, stdout=subprocess.DEVNULL) as setup:
        end = time.monotonic() + 60
        while not (tree / "building").exists() and time.monotonic() < end:
            time.sleep(0.1)
        os.killpg(setup.pid, signal.SIGINT)
        assert setup.wait(30) == 130
    assert not (tree / ".venv/made-from").exists()
    assert not (tree / ".venv/without-horovod").exists()


def test_a_horovod_of_before_goes_where_none_can_be_built(tree: Path) -> None:
    (tree / "no-build").write_text("build_horovod.sh: no MPI\n")
    _run(tree / "launch/setup.sh")
    assert "pip uninstall -qq --yes horovod" in (tree / "calls").read_text()


def test_horovod_is_left_out_and_tried_again_as_asked(tree: Path) -> None:
    _program(tree / "launch/build_horovod.sh", f'#!/bin/sh\necho built >>"{tree}/calls"\n')
    for wish, built in (("", 1), ("no", 0), ("no", 0), ("", 1), ("", 0)):
        (tree / "calls").write_text("")
        _run(tree / "launch/setup.sh", HOROVOD=wish)
        assert (tree / "calls").read_text().count("built") == built, wish


@pytest.mark.parametrize("wish", [{"HOROVOD": "yes"}, {"CI": "true"}])
def test_where_horovod_is_wanted_a_failed_build_ends_the_set_up(tree: Path, wish: dict[str, str]) -> None:
    (tree / "no-build").write_text("build_horovod.sh: no MPI\n")
    for _ in range(2):
        found = _run(tree / "launch/setup.sh", **wish)
        assert found.returncode == 1
        assert "no MPI" in found.stderr


# Stands for a Python whose build tools compile nothing: `-m venv FOLDER` makes such tools.
TOOLS_THAT_FAIL = r"""#!/bin/sh
case "$*" in
    *facts.py*) printf '%s\n' KEY=wheel HOROVOD=0.28.1 TORCH=2.13.0 MPI=mpich MPICXX=mpicxx \
        CXX_STANDARD=17 RPATH= SITE_PACKAGES=/site ;;
    *"-m venv"*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python" ;;
    *"pip wheel"*)
        printf '%s\n' "-- Could NOT find NVTX" "  -Werror=x" "$SAID" "error: pip"; exit 1 ;;
    *get_path*) dirname "$0" ;;
esac
"""


@pytest.mark.skipif(COMPILER is None, reason="without a C++ compiler the build does not begin: install g++")
@pytest.mark.parametrize(
    ("said", "named"),
    [
        ("  /tmp/build/common.h:343:18: error: no logic_error", "common.h:343:18: error: no logic_error"),
        (
            "  CMake Error at x/CMakeLists.txt:3 (project):\n    No compiler",
            "CMake Error at x/CMakeLists.txt:3 (project): No compiler",
        ),
        ("", "-- Could NOT find NVTX"),
    ],
)
def test_a_build_that_fails_names_its_first_error_and_its_log(tmp_path: Path, said: str, named: str) -> None:
    python = _program(tmp_path / "python", TOOLS_THAT_FAIL)
    found = _run(ROOT / "launch/build_horovod.sh", PYTHON=str(python), XDG_CACHE_HOME=str(tmp_path), SAID=said)
    assert found.returncode == 1
    log = tmp_path / "hpc_dl/wheel/build.log"
    reason = f"the build failed: {named} (all of it: {log})"
    assert found.stderr.splitlines()[-1] == f"build_horovod.sh: {reason}"
    assert "error: pip" in log.read_text()


def test_no_python_that_is_new_enough_is_said(tree: Path) -> None:
    (tree / "broken").touch()
    found = _run(tree / "launch/setup.sh", PYTHON="/nowhere/python3")
    assert found.returncode == 2
    assert "no Python 3.10 or newer with venv and pip at PYTHON=/nowhere/python3" in found.stderr


@pytest.mark.parametrize("terminal", [True, False])
def test_a_long_command_shows_how_far_it_is_and_keeps_its_status(tmp_path: Path, terminal: bool) -> None:
    script = f"""source "{ROOT}/launch/progress.sh"
        work() {{ echo "[ 37%] Building CXX object a/b/c.o"; sleep 1.5; return 3; }}
        with_progress "building" {tmp_path}/log work; echo "status $?" """
    words = ["script", "-qec", f"bash -c '{script}'", "/dev/null"] if terminal else ["bash", "-c", script]
    shown = _run(*words).stdout
    assert "status 3" in shown
    seen = re.search(r"building \d s  \[ 37%\] Building CXX object c\.o", shown)
    assert bool(seen) == terminal  # elsewhere a line every 30 s
    assert "[ 37%]" in (tmp_path / "log").read_text()


def test_another_python_makes_another_environment(tree: Path) -> None:
    for name, made in (("one", True), ("one", False), ("other", True)):
        python = _program(tree / name / "python3", PYTHON.format(tree=tree))
        found = _run(tree / "launch/setup.sh", HOROVOD="no", PYTHON=str(python))
        assert (f"({python})" in found.stdout) == made, found.stdout


def _installed(folder: Path, name: str, version: str) -> None:
    information = folder / f"{name}-{version}.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def _inherited(site: Path, *words: str | Path) -> list[str]:
    found = _run(sys.executable, "-S", ROOT / "launch/inherited.py", *words, PYTHONPATH=str(site))
    assert found.returncode == 0, found.stderr
    return found.stdout.splitlines()


def test_a_torch_that_is_there_stays_and_what_comes_with_it_is_not_pinned(tmp_path: Path) -> None:
    site = tmp_path / "module/site-packages"
    for name, version in (("torch", "2.8.0a0+cray"), ("NumPy", "1.26.4"), ("mpi4py", "3.1"), ("PyYAML", "6.0")):
        _installed(site, name, version)
    pins = tmp_path / "constraints.txt"
    pins.write_text(
        "# made by uv\nmpi4py==4.1.2\nnumpy==2.4.0 ; python_version >= '3.11'\npyyaml==6.0.3\ntorch==2.13.0\n"
    )
    assert _inherited(site, "paths") == [str(site)]
    assert _inherited(site, "constraints", pins) == ["torch==2.8.0a0+cray", "numpy<2", "mpi4py==4.1.2"]


@pytest.mark.parametrize("version", [None, "2.2.1", "2.3.0a0+container"])
def test_without_a_torch_or_with_one_too_old_nothing_is_taken_over(tmp_path: Path, version: str | None) -> None:
    site = tmp_path / "site-packages"
    site.mkdir()
    if version:
        _installed(site, "torch", version)
    assert _inherited(site, "paths") == []
    assert _inherited(site, "constraints", "/nowhere") == []


@pytest.mark.horovod
def test_horovod_and_mpi4py_load_one_mpi_and_it_is_this_environments() -> None:
    program = (
        "import horovod.torch as hvd; from mpi4py import MPI; hvd.init()\n"
        "print('\\n'.join({line.split()[-1] for line in open('/proc/self/maps') if 'libmpi' in line}))\n"
    )
    found = _run(sys.executable, "-c", program)
    assert found.returncode == 0, found.stderr
    (library,) = found.stdout.split()
    assert Path(library).is_relative_to(sys.prefix)
