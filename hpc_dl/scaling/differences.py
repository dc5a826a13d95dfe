# SPDX-License-Identifier: Apache-2.0
"""What all runs of a study share, and what differs between them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hpc_dl.runlog.records import Header, Run

# Different in every run, or by the very question of the study.
EXPECTED = {
    "run_id",
    "started",
    "job_id",
    "hosts",
    "world_size",
    "nodes",
    "local_batch",
    "global_batch",
    "settings.log",
}
EXPECTED |= {"settings.training.local_batch", "settings.training.global_batch", "engine_why", "device_why"}


@dataclass(frozen=True)
class Difference:
    """One fact and the runs of each of its values."""

    fact: str
    values: tuple[tuple[str, tuple[Run, ...]], ...]


@dataclass(frozen=True)
class Environment:
    """Where and how the runs ran."""

    shared: tuple[tuple[str, str], ...]
    """Facts that are the same in all runs, with their value."""
    differing: tuple[Difference, ...]


def compare_environments(runs: Sequence[Run]) -> Environment:
    """Sort every fact of the headers into shared and differing; one rank may go without an engine."""
    facts = [dict(_facts(run.header)) for run in runs]
    names = dict.fromkeys(name for found in facts for name in found)
    shared: list[tuple[str, str]] = []
    differing: list[Difference] = []
    for name in names:
        groups: dict[str, list[Run]] = {}
        for run, found in zip(runs, facts, strict=True):
            if name in found:
                groups.setdefault(found[name], []).append(run)
            elif name not in ("engine", "backend"):
                groups.setdefault("not given", []).append(run)
        if len(groups) == 1:
            shared.append((name, next(iter(groups))))
        else:
            differing.append(Difference(name, tuple((value, tuple(group)) for value, group in groups.items())))
    return Environment(tuple(shared), tuple(differing))


def _facts(header: Header) -> Iterator[tuple[str, str]]:
    for name, value in _flat("", vars(header)):
        alone = header.world_size == 1 and name in ("engine", "backend")
        if not alone and not any(name == known or name.startswith(known + ".") for known in EXPECTED):
            yield name, value


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
    """Nested mappings as dotted names."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _flat(f"{prefix}.{key}" if prefix else str(key), item)
    elif value not in ("", None, {}, ()):
        yield prefix, ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
