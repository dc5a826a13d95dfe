# SPDX-License-Identifier: Apache-2.0
"""A torch that is there already, of a module or a conda environment: where it lies, and what pip must leave alone.

    PYTHON launch/inherited.py paths                              folders of packages, one a line
    ENVIRONMENT/bin/python launch/inherited.py constraints FILE   the pins of FILE, less what lies outside ENVIRONMENT

Standard library only; nothing is imported. Prints nothing where there is no torch that hpc_dl can use.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions
from pathlib import Path

OLDEST_TORCH = (2, 3)
OWN = ("mpich", "mpi4py", "setuptools")
"""What the environment has of its own in any case: launch/setup.sh installs these over what is there."""


def usable_torch() -> Distribution | None:
    """This Python's torch; None where there is none, or one that is too old."""
    try:
        torch = distribution("torch")
    except PackageNotFoundError:
        return None
    numbers = tuple(int(number) for number in re.findall(r"\d+", torch.version)[:2])
    before_release = re.match(r"2\.3\.0(a|b|rc|\.dev)", torch.version)  # to pip these are older than 2.3
    return torch if numbers >= OLDEST_TORCH and not before_release else None


def paths(torch: Distribution) -> list[str]:
    """Folders that this Python takes packages from, torch's among them."""
    folders = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    return list(dict.fromkeys([*folders, str(torch.locate_file(""))]))


def constraints(pins: str, torch: Distribution) -> Iterator[str]:
    """Lines for pip: this very torch, and the pins of what is not there yet."""
    there = {_normal(found.metadata["Name"] or ""): found.version for found in distributions() if _is_outside(found)}
    yield f"torch=={torch.version}"
    if there.get("numpy", "").startswith("1."):
        yield "numpy<2"  # what is compiled for numpy 1 does not load with another
    for line in pins.splitlines():
        name = re.match(r"[\w.-]+", line)
        if name and (_normal(name[0]) in OWN or _normal(name[0]) not in there):
            yield line


def _is_outside(found: Distribution) -> bool:
    return not Path(str(found.locate_file(""))).is_relative_to(sys.prefix)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main(what: str, *files: str) -> None:
    """Print one of the two lists."""
    torch = usable_torch()
    if torch and what == "paths":
        print("\n".join(paths(torch)))
    elif torch and _is_outside(torch):
        print("\n".join(constraints(Path(files[0]).read_text(encoding="utf-8"), torch)))


if __name__ == "__main__":
    main(*sys.argv[1:])
