# SPDX-License-Identifier: Apache-2.0
"""`make check-systems`: the README's first command and the tests on real ranks, in systems other than this one.

    python -m testbed.systems [NAME ...] [--demo-only] [--folder FOLDER]

Each Debian release is installed into a folder (debootstrap) and entered by chroot, which takes root and some 10 GB a
release; "here" is this machine with the Python that PYTHON names. Prints, and keeps beside the logs, the table of
docs/install.md. Standard library only.
"""

from __future__ import annotations

import argparse
import datetime
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
MIRROR = "http://deb.debian.org/debian"
PLAIN = ("make", "python3-venv", "python3-dev")
"""What docs/install.md asks for, besides a compiler."""
LIMIT_SECONDS = 3600
VERSIONS = "import platform, torch; print(platform.python_version(), torch.__version__)"


@dataclass(frozen=True)
class System:
    """Where the commands run, and with what."""

    suite: str | None
    """Debian release; None for this machine."""
    packages: tuple[str, ...] = ()
    cxx: str = "g++"
    torch: str | None = None
    """A torch to install beforehand, as a module brings one; None for the one that the project pins."""


SYSTEMS = {
    "debian-12": System("bookworm", ("g++",)),
    "debian-12-clang": System("bookworm", ("clang-14",), cxx="clang++-14"),
    "debian-12-oldest-torch": System("bookworm", ("g++-11",), cxx="g++-11", torch="2.3.1"),
    "debian-13": System("trixie", ("g++",)),
    "debian-13-clang": System("trixie", ("clang-19",), cxx="clang++-19"),
    "debian-testing": System("forky", ("g++-15",), cxx="g++-15"),
    "here": System(None, torch="2.3.1"),
}


@dataclass(frozen=True)
class Outcome:
    """What the commands came to in one system."""

    name: str
    compiler: str
    python: str
    torch: str
    demo: str
    parallel: str

    def row(self) -> str:
        today = datetime.date.today().isoformat()
        return (
            "| "
            + " | ".join((self.name, self.compiler, self.python, self.torch, self.demo, self.parallel, today))
            + " |"
        )


HEAD = "| System | Compiler | Python | torch | `make demo` | `tests/parallel` | Date |\n|---|---|---|---|---|---|---|"


class Inside:
    """Runs commands in a system."""

    def __init__(self, name: str, system: System, folder: Path) -> None:
        self._system, self._log = system, folder / f"{name}.log"
        self._root = folder / system.suite if system.suite else Path("/")
        self.home = f"/root/check-{name}" if system.suite else str(folder / name)
        self._log.write_text("")

    def prepare(self) -> None:
        """Install the system and copy the project into it."""
        if self._system.suite:
            install(self._root, self._system)
        place = self._root / self.home.lstrip("/") / "hpc_dl"
        shutil.rmtree(place.parent, ignore_errors=True)
        place.mkdir(parents=True)
        files = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=PROJECT,
            capture_output=True,
            check=True,
        ).stdout
        packed = subprocess.run(
            ["tar", "--create", "--null", "--files-from=-"], cwd=PROJECT, input=files, capture_output=True, check=True
        )
        subprocess.run(["tar", "--extract"], cwd=place, input=packed.stdout, check=True)

    def run(self, command: str) -> tuple[bool, str, float]:
        """Did it end well, what did it print, how long did it take (seconds); the environment is a bare one."""
        begun = time.monotonic()
        variables = {"HOME": self.home, "PATH": os.defpath + ":/usr/sbin:/sbin", "TERM": "dumb", "LANG": "C.UTF-8"}
        if not self._system.suite:
            variables["PATH"] = os.environ["PATH"]
        given = [f"{name}={value}" for name, value in (variables | {"CXX": self._system.cxx}).items()]
        words = ["env", "-i", *given, "bash", "-c", f"cd {shlex.quote(self.home)}/hpc_dl && {command}"]
        limited = ["timeout", str(LIMIT_SECONDS), *words]
        done = subprocess.run(
            in_root(self._root, limited) if self._system.suite else limited,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        with self._log.open("a", encoding="utf-8") as log:
            log.write(f"$ {command}\n{done.stdout}\n")
        return done.returncode == 0, done.stdout, time.monotonic() - begun


def install(root: Path, system: System) -> None:
    """A Debian in a folder, with the packages of a system; a folder that is there is used as it is."""
    if not (root / "etc/apt").exists():
        script = "/usr/share/debootstrap/scripts/sid"  # the same for every release, known ones and later ones
        subprocess.run(
            ["debootstrap", "--variant=minbase", "--include=ca-certificates", system.suite or "", root, MIRROR, script],
            check=True,
        )
    for file in ("/etc/resolv.conf", "/etc/hosts", "/etc/pip.conf", "/etc/ssl/certs/ca-certificates.crt"):
        if Path(file).exists():  # the way to the network is this machine's
            shutil.copy(Path(file).resolve(), root / file.lstrip("/"))
    apt = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "-o", "Acquire::Check-Valid-Until=false"]
    subprocess.run(in_root(root, [*apt, "update"]), check=True)
    packages = [*PLAIN, *system.packages]
    subprocess.run(in_root(root, [*apt, "install", "-y", "--no-install-recommends", *packages]), check=True)


def in_root(root: Path, words: Sequence[str]) -> list[str]:
    """Words that run a command in a folder's system, with mounts that nobody else sees and that go with it."""
    place = shlex.quote(str(root))
    # /sys for UCX, MPICH's transport, which looks for network interfaces there.
    mounts = f"mount -t proc proc {place}/proc && mount --rbind /dev {place}/dev && mount --rbind /sys {place}/sys"
    return ["unshare", "--mount", "sh", "-c", f"{mounts} && exec chroot {place} {shlex.join(words)}"]


def check(name: str, folder: Path, *, demo_only: bool = False) -> Outcome:
    """Prepare a system, run the demo and the tests on real ranks, and say what came of it."""
    system = SYSTEMS[name]
    inside = Inside(name, system, folder)
    inside.prepare()
    python = shlex.quote(os.environ.get("PYTHON", "python3")) if system.suite is None else "python3"
    if system.torch:
        module = f"{inside.home}/module"
        inside.run(f"{python} -m venv {module} && {module}/bin/pip install -q torch=={system.torch} numpy")
        python = f"{module}/bin/python"
    done, printed, seconds = inside.run(f"PYTHON={python} make demo")
    engine = "no Horovod" if "no Horovod" in printed else "Horovod"
    tests = 'PATH="$PWD/.venv/bin:$PATH" python -m pytest -q tests/parallel'
    tested, results, _ = (True, "", 0.0) if demo_only else inside.run(tests)
    compiler = re.findall(r"[0-9]+[.][0-9.]+", inside.run('"$CXX" --version')[1].partition("\n")[0]) or ["?"]
    known, versions, _ = inside.run(f".venv/bin/python -c {shlex.quote(VERSIONS)}")
    number, torch = versions.split()[-2:] if known else ("?", "?")
    right = done and torch.startswith(system.torch or "")
    counts = re.findall(r"^.*\d+ (?:passed|failed).* in .*$", results, re.M) or ["not run"]
    return Outcome(
        name,
        f"{system.cxx} {compiler[-1]}",
        number,
        torch,
        f"{'report' if right else 'FAILED'}, {engine}, {seconds / 60:.1f} min",
        ("" if tested else "FAILED: ") + counts[-1].strip("= "),
    )


def main(words: Sequence[str]) -> int:
    """Check the named systems; 1 where one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], prog="python -m testbed.systems")
    parser.add_argument("names", nargs="*", help=f"of {', '.join(SYSTEMS)}; all but 'here' by default")
    parser.add_argument("--demo-only", action="store_true", help="leave out the tests")
    parser.add_argument("--folder", type=Path, default=PROJECT / "build/systems", help="where the systems lie")
    asked = parser.parse_args(words)
    if unknown := set(asked.names) - set(SYSTEMS):
        parser.error(f"no such system: {', '.join(sorted(unknown))}; give {', '.join(SYSTEMS)}")
    if missing := [tool for tool in ("debootstrap", "unshare", "chroot") if shutil.which(tool) is None]:
        print(f"systems: no {', '.join(missing)}: apt-get install debootstrap util-linux", file=sys.stderr)
        return 2
    folder = asked.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for name in asked.names or [name for name in SYSTEMS if SYSTEMS[name].suite]:
        print(f"systems: {name}; what happens is in {folder / name}.log", flush=True)
        rows.append(check(name, folder, demo_only=asked.demo_only).row())
        print(rows[-1], flush=True)
        (folder / "table.md").write_text("\n".join([HEAD, *rows]) + "\n")
    return int(any("FAILED" in row or "no Horovod" in row for row in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
