# SPDX-License-Identifier: Apache-2.0
"""The machines hpc_dl knows, and which one this is.

A machine is a TOML file: those of `machine_records/`, or one of your own (docs/machines/your-cluster.md).
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from hpc_dl.cluster.machine import Machine
from hpc_dl.cluster.variables import MACHINE
from hpc_dl.errors import HpcDlError, nearest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

RECORDS = Path(__file__).parent / "machine_records"
T = TypeVar("T")


def names() -> list[str]:
    """The machines that come with hpc_dl."""
    return sorted(path.stem for path in RECORDS.glob("*.toml"))


def load(name_or_path: str) -> Machine:
    """A machine by name, or from a TOML file of your own."""
    path = Path(name_or_path) if name_or_path.endswith(".toml") else RECORDS / f"{name_or_path}.toml"
    if path.parent == RECORDS and path.stem not in names():
        remedy = f"{nearest(name_or_path, names())}; your own cluster is a TOML file (docs/machines/your-cluster.md)"
        raise HpcDlError(f"machine {name_or_path!r}", "no such machine", remedy)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        remedy = "write it as docs/machines/your-cluster.md shows"
        raise HpcDlError(f"machine file {path}", str(error), remedy) from None
    return _build(Machine, {"name": path.stem, **values}, str(path))


def find(environ: Mapping[str, str], host: str = "") -> Machine:
    """The machine this process runs on: as HPC_DL_MACHINE says, by the site's variables or host names, else local."""
    if name := environ.get(MACHINE):
        return load(name)
    host = host or socket.gethostname()
    for machine in map(load, names()):
        marks = machine.identity.variables
        if marks and all(environ.get(variable) == value for variable, value in marks.items()):
            return machine
        if any(fnmatch(host, pattern) for pattern in machine.identity.host_names):
            return machine
    return load("local")


def _build(kind: type[T], values: Any, where: str) -> T:
    """A record from the tables of a TOML file; an unknown name or a wrong type is refused with its place."""
    if not isinstance(values, Mapping):
        raise HpcDlError(where, f"{values!r} is not a table", f"expected a table of {kind.__name__}")
    hints = get_type_hints(kind)
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    for name, entry in known.items():
        if name not in values and entry.default is MISSING and entry.default_factory is MISSING:
            raise HpcDlError(where, f"{name} is missing", f'add {name} = "..."')
    for name in values:
        if name not in known:
            raise HpcDlError(f"{where}: {name}", "no such entry", nearest(name, known))
    return kind(**{name: _convert(hints[name], value, f"{where}: {name}") for name, value in values.items()})


def _convert(hint: Any, value: Any, where: str) -> Any:
    if is_dataclass(hint):
        return _build(hint, value, where)  # type: ignore[arg-type]
    if get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise HpcDlError(where, f"{value!r} is not a list", "write it as [ ..., ... ]")
        return tuple(_convert(get_args(hint)[0], item, f"{where}[{index}]") for index, item in enumerate(value))
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise HpcDlError(f"{where} = {value!r}", "not one of the choices", nearest(str(value), get_args(hint)))
        return value
    if get_origin(hint) is dict:
        if not (isinstance(value, Mapping) and all(isinstance(item, str) for item in value.values())):
            raise HpcDlError(where, f"{value!r} is not a table of texts", 'write it as { NAME = "value" }')
        return dict(value)
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise HpcDlError(f"{where} = {value!r}", f"not of type {hint.__name__}", f"give a {hint.__name__}")
    return value
