# SPDX-License-Identifier: Apache-2.0
"""A frozen dataclass from the values of a JSON line, each value checked against the type of its field."""

from __future__ import annotations

import typing
from collections.abc import Callable
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache, partial
from typing import Any

Conversion = Callable[[Any], Any] | None
Plan = tuple[str, tuple[type[Any], ...], Conversion, bool]
"""Name of a field, types JSON may give for it, way from there (None: as it is), whether it has to be there."""


def build(kind: type[Any], values: Any) -> Any:
    """`kind` filled from `values`: unknown names are ignored, absent ones need a default.

    Called some ten times per line of a log, so plain loops and no helpers inside.

    Raises:
        ValueError: A field is missing or has the wrong type; the message names it.
    """
    if type(values) is not dict:
        raise ValueError(f"{values!r} where a {kind.__name__.lower()} belongs")
    given: dict[str, Any] = {}
    for name, types, convert, demanded in _plans(kind):  # type: ignore[arg-type]
        if name not in values:
            if demanded:
                raise ValueError(f"no {name}")
            continue
        value = values[name]
        if type(value) not in types:
            raise ValueError(f"{name}: {value!r} is not of type {types[0].__name__}")
        if convert is not None:
            try:
                value = convert(value)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        given[name] = value
    return kind(**given)


@cache
def _plans(kind: type[Any]) -> tuple[Plan, ...]:
    types = typing.get_type_hints(kind)
    return tuple((item.name, *_conversion(types[item.name]), _demanded(item)) for item in fields(kind))


def _demanded(item: Field[Any]) -> bool:
    """A field with a default may be absent: that is how a format grows without a new version."""
    return item.default is MISSING and item.default_factory is MISSING


def _conversion(wanted: Any) -> tuple[tuple[type[Any], ...], Conversion]:
    """The types JSON may give for `wanted`, compared exactly (True is no number), and the way from there."""
    origin, inner = typing.get_origin(wanted), typing.get_args(wanted)
    if type(None) in inner:
        types, convert = _conversion(next(kind for kind in inner if kind is not type(None)))
        return (*types, type(None)), convert and (lambda value: None if value is None else convert(value))
    if isinstance(wanted, type) and is_dataclass(wanted):
        return (dict,), partial(build, wanted)
    if origin is tuple:
        return (list,), tuple
    if origin is dict and is_dataclass(inner[1]):
        return (dict,), lambda value: {key: build(inner[1], item) for key, item in value.items()}
    if wanted is float:
        return (float, int), None  # JSON in some hands writes 2.0 as 2
    return (origin or wanted,), None
