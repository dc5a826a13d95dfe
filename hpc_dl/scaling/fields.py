# SPDX-License-Identifier: Apache-2.0
"""A frozen dataclass from the values of a JSON line, each value checked against the type of its field."""

from __future__ import annotations

import typing
from collections.abc import Callable
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache, partial
from typing import Any

Converter = Callable[[Any], Any]


def build(kind: type[Any], values: Any) -> Any:
    """`kind` filled from `values`: unknown names are ignored, absent ones need a default.

    Raises:
        ValueError: A field is missing or has the wrong type; the message names it.
    """
    if type(values) is not dict:
        raise ValueError(f"{values!r} where a {kind.__name__.lower()} belongs")
    given: dict[str, Any] = {}
    for name, convert, demanded in _plan(kind):  # type: ignore[arg-type]
        if name in values:
            try:
                given[name] = convert(values[name])
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        elif demanded:
            raise ValueError(f"no {name}")
    return kind(**given)


@cache
def _plan(kind: type[Any]) -> tuple[tuple[str, Converter, bool], ...]:
    types = typing.get_type_hints(kind)
    return tuple((item.name, _converter(types[item.name]), _demanded(item)) for item in fields(kind))


def _demanded(item: Field[Any]) -> bool:
    """A field with a default may be absent: that is how a format grows without a new version."""
    return item.default is MISSING and item.default_factory is MISSING


def _converter(wanted: Any) -> Converter:
    """A function from a JSON value to a value of the type `wanted`."""
    origin, inner = typing.get_origin(wanted), typing.get_args(wanted)
    if isinstance(wanted, type) and is_dataclass(wanted):
        return partial(build, wanted)
    if origin is tuple:
        return lambda value: tuple(_list(value))
    if origin is dict and is_dataclass(inner[1]):
        return lambda value: {key: build(inner[1], item) for key, item in _dict(value).items()}
    return CONVERTERS[origin or wanted]


def _exactly(*wanted: type[Any]) -> Converter:
    def check(value: Any) -> Any:
        if type(value) not in wanted:  # not isinstance: True is no number
            raise ValueError(f"{value!r} is not of type {wanted[0].__name__}")
        return value

    return check


_list, _dict = _exactly(list), _exactly(dict)
CONVERTERS: dict[Any, Converter] = {
    bool: _exactly(bool),
    int: _exactly(int),
    float: _exactly(float, int),  # JSON in some hands writes 2.0 as 2
    str: _exactly(str),
    dict: _dict,
}
