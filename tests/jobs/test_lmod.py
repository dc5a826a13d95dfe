# SPDX-License-Identifier: Apache-2.0
"""The modules of a job under the real Lmod: what loads is let through under any name, what does not stops the job."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.world import ROOT

LMOD = Path("/etc/profile.d/lmod.sh")
MODULES = {
    "torch/2.8.0.lua": "",
    "torch/2.9.1.lua": "",
    "torch/.modulerc.lua": 'module_version("torch/2.8.0", "stable")',
    "tcl/2025.3.1": "#%Module\nprepend-path PATH /opt/tcl/bin\n",
    "stack/1.lua": 'load("torch/2.8.0")',
    "broken/1.lua": 'LmodError("not on this node")',
}


def load(folder: Path, *names: str, before: str = "true") -> tuple[int, str]:
    """Status and output of a login shell that loads modules as job scripts do, then prints what is loaded."""
    if not LMOD.exists():
        reason = "no Lmod: apt-get install lmod"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    for name, text in MODULES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    code = f"module use {folder}; {before}; source '{ROOT}/launch/job.sh'; load_modules {' '.join(names)}"
    words = ["bash", "-l", "-c", f"{code}; echo $LOADEDMODULES"]
    done = subprocess.run(words, env={"HOME": str(folder)}, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("names", "loaded"),
    [
        (["torch"], "torch/2.9.1"),
        (["torch/2.8.0", "tcl"], "torch/2.8.0:tcl/2025.3.1"),
        (["torch/2.8"], "torch/2.8.0"),
        (["stack"], "torch/2.8.0:stack/1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_loads_is_let_through(tmp_path: Path, names: list[str], loaded: str) -> None:
    assert load(tmp_path, *names) == (0, f"{loaded}\n")
    again = load(tmp_path, *names, before=f"module load {' '.join(names)}")
    assert (again[0], set(again[1].strip().split(":"))) == (0, set(loaded.split(":")))


def test_an_alias_is_let_through(tmp_path: Path) -> None:
    assert load(tmp_path, "torch/stable") == (0, "torch/2.8.0\n")


@pytest.mark.parametrize("name", ["nosuch", "torch/3", "broken"])
def test_what_does_not_load_stops_the_job(tmp_path: Path, name: str) -> None:
    status, output = load(tmp_path, "torch", name)
    assert status == 1
    assert f"hpc_dl job: module load {name} failed: module avail {name.partition('/')[0]} shows what there is" in output


def test_what_lmod_hides_and_says_nothing_about_stops_the_job(tmp_path: Path) -> None:
    """`module try-load` is what says nothing; a site's wrapper of `module` may do the same."""
    quiet = 'eval "lmod_$(declare -f module)"; module() { lmod_module "${1/#load/try-load}" "${@:2}"; }'
    status, output = load(tmp_path, "nosuch", before=quiet)
    assert status == 1
    assert "hpc_dl job: module load nosuch loaded nothing: module avail nosuch shows what there is" in output
    assert load(tmp_path, "torch/2.8", before=quiet) == (0, "torch/2.8.0\n")
