# SPDX-License-Identifier: Apache-2.0
"""Who am I: one pure function from the environment to a rank record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hpc_dl.cluster.hosts import expand_tasks_per_node
from hpc_dl.cluster.launchers import COUNT_PER_NODE, FIELDS, LAUNCHERS, Environ, Launcher
from hpc_dl.errors import HpcDlError


@dataclass(frozen=True)
class RankRecord:
    """This process among its fellows, as its launcher numbers them."""

    rank: int
    world_size: int | None
    """None only where the launcher exports none (PALS without HPC_DL_WORLD_SIZE): ask MPI."""
    local_rank: int
    local_world_size: int
    node: int | None
    """Index of the node, where the launcher exports it."""
    launcher: str
    host: str | None = None
    """The launcher's name for the node, where it exports one: it may differ from gethostname()."""


def detect_rank(environ: Environ) -> RankRecord:
    """The rank record of a process with this environment; empty variables count as unset.

    All numbers come from one launcher (see `LAUNCHERS`); none is computed by division.

    Raises:
        HpcDlError: Variables of the launcher are missing, are no numbers, or contradict each other.
    """
    environ = {name: value.strip() for name, value in environ.items() if value.strip()}
    launcher = next((row for row in LAUNCHERS if row.started(environ)), None)
    if launcher is None:
        return RankRecord(0, 1, 0, 1, None, "single")
    numbers = _read_numbers(launcher, environ)
    _refuse_contradiction(launcher, numbers, environ)
    return RankRecord(
        rank=numbers["rank"],
        world_size=numbers.get("world_size"),
        local_rank=numbers["local_rank"],
        local_world_size=numbers["local_world_size"],
        node=numbers.get("node"),
        launcher=launcher.name,
        host=environ.get(launcher.host),
    )


def _read_numbers(launcher: Launcher, environ: Environ) -> dict[str, int]:
    """The row's fields by name; only optional ones are missing."""
    numbers: dict[str, int] = {}
    for field in FIELDS:
        names = launcher.variables.get(field, ())
        if (names and names[0] in environ) or field in launcher.optional:
            found = {name: _parse(launcher, name, environ, numbers) for name in names if name in environ}
            if len(set(found.values())) > 1:
                raise _refusal(launcher, found, environ, f"they disagree about the {_words(field)}")
            numbers.update((field, value) for value in found.values())
        else:
            present = [name for names in launcher.variables.values() for name in names if name in environ]
            missing = f"{names[0]} is missing" if names else f"no variable tells the {_words(field)}"
            raise _refusal(launcher, present, environ, missing)
    return numbers


def _parse(launcher: Launcher, name: str, environ: Environ, numbers: Mapping[str, int]) -> int:
    text = environ[name]
    if name == COUNT_PER_NODE:
        counts = expand_tasks_per_node(text)
        if numbers["node"] >= len(counts):
            raise _refusal(launcher, (name, launcher.variables["node"][0]), environ, "the node is not in the list")
        return counts[numbers["node"]]
    if not (text.isascii() and text.isdigit()):
        raise _refusal(launcher, (name,), environ, "not a whole number of 0 or more")
    return int(text)


def _refuse_contradiction(launcher: Launcher, numbers: Mapping[str, int], environ: Environ) -> None:
    for field, limit, largest, sentence in (
        ("rank", "world_size", -1, "the rank must be below the world size"),
        ("local_rank", "local_world_size", -1, "the local rank must be below the local world size"),
        ("local_world_size", "world_size", 0, "a node cannot hold more ranks than the world"),
    ):
        if limit in numbers and numbers[field] > numbers[limit] + largest:
            names = (launcher.variables[field][0], launcher.variables[limit][0])
            raise _refusal(launcher, names, environ, sentence)


def _refusal(launcher: Launcher, names: Iterable[str], environ: Environ, why: str) -> HpcDlError:
    values = ", ".join(f"{name}={environ[name]}" for name in names if name in environ)
    return HpcDlError(
        f"rank of this process, started by {launcher.name}",
        f"{values}: {why}",
        "start all ranks with one launcher (mpiexec, srun or torchrun); unset variables left over from another",
    )


def _words(field: str) -> str:
    return field.replace("_", " ")
