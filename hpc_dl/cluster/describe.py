# SPDX-License-Identifier: Apache-2.0
"""A machine record as text for people: every table with its source and date."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from typing import Any

from hpc_dl.cluster.machine import Machine, Sourced

WIDTH = 100


def overview(machines: Iterable[Machine]) -> str:
    """One line per machine."""
    header = ("machine", "scheduler", "launcher", "ranks per node", "device", "title")
    rows = [header, *((m.name, m.scheduler, m.launcher, str(m.ranks_per_node), m.device, m.title) for m in machines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def describe(machine: Machine) -> str:
    """Everything the record holds; what was never run on the real machine comes first."""
    lines = [machine.title or machine.name]
    lines += _wrap(machine.never_run, "") if machine.never_run else []
    lines += [f"scheduler {machine.scheduler}, launcher {machine.launcher}, device {machine.device}"]
    for entry in fields(machine):
        value = getattr(machine, entry.name)
        groups = value if isinstance(value, tuple) else (value,)
        for group in groups:
            if isinstance(group, Sourced) and _filled(group):
                lines += ["", *_group(entry.name.replace("_", " "), group)]
    return "\n".join(lines)


def _group(title: str, group: Sourced) -> list[str]:
    name = getattr(group, "name", "")
    lines = [f"{title} {name}".rstrip()]
    for label, value in _filled(group).items():
        if label != "name":
            lines += _wrap(f"{label.replace('_', ' ')}: {_text(value)}", "  ")
    source = f"source: {group.source}" + (f" ({group.date})" if group.date else "")
    return lines + (_wrap(f"note: {group.note}", "  ") if group.note else []) + _wrap(source, "  ")


def _filled(group: Sourced) -> dict[str, Any]:
    """The entries that say something beyond their default."""
    common = {entry.name for entry in fields(Sourced)}
    entries = (entry for entry in fields(group) if entry.name not in common)
    values = {entry.name: getattr(group, entry.name) for entry in entries}
    return {name: value for name, value in values.items() if value not in ("", 0, (), {}, False)}


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={text}" for name, text in value.items())
    if isinstance(value, tuple):
        return "; ".join(map(_text, value)) if any(map(is_dataclass, value)) else ", ".join(map(str, value))
    if is_dataclass(value):
        return ", ".join(str(getattr(value, entry.name)) for entry in fields(value))
    return "yes" if value is True else str(value)


def _wrap(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent + "    ", break_on_hyphens=False)
