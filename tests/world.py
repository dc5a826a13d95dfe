# SPDX-License-Identifier: Apache-2.0
"""The world of the tests: what a test, and all it starts, see of the machine around them. It is the same everywhere.

A login node or a job exports hundreds of variables and shell functions, and no list of them is ever complete. So
nothing comes in but what KEPT names; the rest is made here. `make check-environments` tries it where much is exported.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
KEPT = ("USER", "LOGNAME", "TERM", "CI")
"""Who runs the tests, on which terminal, and whether a test that lacks something fails instead of being skipped."""
KEPT_BEGINNINGS = ("PYTEST_", "HYPOTHESIS_", "COV_", "COVERAGE_")
"""What tools of tests tell themselves and their children."""
MADE = {
    "PATH": f"{BIN}:{SYSTEM_PATH}",  # no scheduler, MPI or Python of a module: a test must not reach a real queue
    "SHELL": "/bin/bash",
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
    "HPC_DL_MACHINE": "local",  # whatever this host's name says
}

LOGIN_FILE = f"""\
# A login shell has read the machine's own files before this one. What they brought goes, also Lmod's BASH_ENV, which
# would define another `module` after this file; what the scheduler gave the shell comes back.
unset -f $(compgen -A function)
for name in $(compgen -e); do
    case $name in PWD | OLDPWD | SHLVL | _) ;; *) unset "$name" ;; esac
done
while IFS= read -rd '' given; do export "$given"; done < /proc/$$/environ 2> /dev/null
unset name given
export PATH={SYSTEM_PATH}
"""
"""How the login file of a test bed's HOME begins: as on a machine whose /etc/profile does nothing else."""


def inherit(environ: Mapping[str, str]) -> dict[str, str]:
    """The world's environment, but for a HOME, made from a machine's."""
    kept = {name: text for name, text in environ.items() if name in KEPT or name.startswith(KEPT_BEGINNINGS)}
    return {**kept, **_libraries(environ.get("LD_LIBRARY_PATH", "")), **MADE}


def restart() -> None:
    """Run this process's command again, where the system's loader, which cannot be told anew, was told otherwise."""
    old, new = dict(os.environ), inherit(os.environ)
    if any(old.get(name, "") != new.get(name, "") for name in ("LD_LIBRARY_PATH", "LD_PRELOAD")):
        loader = {name: text for name, text in new.items() if name.startswith("LD_")}
        others = {name: text for name, text in old.items() if not name.startswith("LD_")}
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**others, **loader})


def enter(home: Path) -> None:
    """Move this process into the world: what is inherited, and what Python read of the old one when it started."""
    old = dict(os.environ)
    os.environ.clear()
    os.environ.update(inherit(old), HOME=str(home))
    os.umask(0o022)
    time.tzset()
    tempfile.tempdir = None
    shadows = {os.path.abspath(folder) for folder in old.get("PYTHONPATH", "").split(os.pathsep) if folder}
    sys.path[:] = [folder for folder in sys.path if os.path.abspath(folder) not in shadows - {str(ROOT)}]
    if "PYTHONWARNINGS" in old:
        sys.warnoptions.clear()
        warnings.resetwarnings()
        for silent in (PendingDeprecationWarning, ImportWarning, ResourceWarning):  # as Python does by itself
            warnings.simplefilter("ignore", silent)


def _libraries(path: str) -> dict[str, str]:
    """A Python that a module brought may need its LD_LIBRARY_PATH; a second MPI on it would come before our own."""
    folders = [folder for folder in path.split(":") if folder and not list(Path(folder).glob("libmpi*.so*"))]
    return {"LD_LIBRARY_PATH": ":".join(folders)} if folders else {}
