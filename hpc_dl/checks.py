# SPDX-License-Identifier: Apache-2.0
"""What a setting may be: checks that a group of settings makes of itself, with the setting's full name in the error."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, get_args, get_origin, get_type_hints

from hpc_dl.errors import HpcDlError, nearest


def check(
    group: Any,
    positive: Sequence[str] = (),
    not_negative: Sequence[str] = (),
    import_paths: Sequence[str] = (),
) -> None:
    """Refuse values out of range (None passes) and, of all settings whose type lists its values, any other value."""
    for name, value in _named(group, positive):
        require(value is None or value > 0, name, value, "greater than 0")
    for name, value in _named(group, not_negative):
        require(value is None or value >= 0, name, value, "0 or greater")
    for name, value in _named(group, import_paths):
        require(_is_import_path(value), name, value, "an import path such as package.module:name")
    for short, known in choices_of(type(group)).items():
        for name, value in _named(group, [short]):
            if value not in known:
                raise HpcDlError(f"{name} = {value!r}", "no such choice", nearest(str(value), known))


def require(holds: bool, name: str, value: object, rule: str) -> None:
    """The check behind the others; `name` is the full one, such as schedule.power."""
    if not holds:
        raise HpcDlError(f"{name} = {value!r}", "out of range", f"give a value that is {rule}")


def require_known(name: str, value: str, known: Iterable[str]) -> None:
    """One of the names, or the import path of something of the user's own."""
    if value not in known and ":" not in value:
        found = f"no such {name.partition('.')[0]}; {nearest(value, known)}"
        raise HpcDlError(f"{name} = {value!r}", found, "give one of these or an import path package.module:name")


def choices_of(kind: type) -> dict[str, tuple[str, ...]]:
    """The settings of a group whose type lists their values, with these values."""
    hints = get_type_hints(kind)
    return {name: get_args(hint) for name, hint in hints.items() if get_origin(hint) is Literal}


def _is_import_path(value: str) -> bool:
    return value.count(":") == 1 and all(value.split(":"))


def _named(group: object, names: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """Full names, such as training.epochs for `epochs` of TrainingSettings, and values."""
    prefix = type(group).__name__.removesuffix("Settings").lower()
    for name in names:
        yield f"{prefix}.{name}", getattr(group, name)
