# SPDX-License-Identifier: Apache-2.0
"""Settings from a recipe or a TOML file and flags, and back to TOML. Knows no setting by name."""

from __future__ import annotations

import re
import sys
from argparse import ArgumentError
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

import jsonargparse
import tomli_w

from hpc_dl.errors import HpcDlError, nearest
from hpc_dl.settings import RENAMED, Settings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Parser = jsonargparse.ArgumentParser


def settings_parser(program: str, base: Settings) -> Parser:
    """A parser with one flag per setting; its help is the docstring under the field, its defaults are the base's."""
    jsonargparse.set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = Parser(prog=program, exit_on_error=False, allow_abbrev=False)
    parser.add_class_arguments(Settings)
    parser.set_defaults(asdict(base))
    return parser


def from_flags(base: Settings, flags: Sequence[str], program: str = "hpc-dl train") -> Settings:
    """The base with some settings overridden by flags such as `--optimizer.learning_rate 0.1`."""
    return _parsed(base, lambda parser: parser.parse_args([_with_new_name(word) for word in flags]), program)


def from_mapping(base: Settings, values: Mapping[str, Any], source: str) -> Settings:
    """The base with some settings overridden by nested values, as a TOML file gives them; `source` is for errors."""
    values = _with_new_names(values)
    for name in (name for name in values if isinstance(values[name], Mapping) != _is_group(name)):
        raise _unknown(name) if name not in _names() else HpcDlError(source, f"{name} is a table", _show(name))
    return _parsed(base, lambda parser: parser.parse_object(dict(values)), source)


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file; names the line where it is not TOML."""
    try:
        tables: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise HpcDlError(f"settings file {path}", "there is no such file", "check the path") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        remedy = "write it as TOML: `key = value` lines under [tables]"
        raise HpcDlError(f"settings file {path}", str(error), remedy) from None
    return tables


def to_toml(settings: Settings) -> str:
    """The settings as TOML; those without a value are left out. Reading it gives the same settings again."""
    return tomli_w.dumps(_without_none(asdict(settings)))


def _parsed(base: Settings, parse: Callable[[Parser], Any], asked: str) -> Settings:
    parser = settings_parser(asked, base)
    try:
        built = parser.instantiate(parse(parser))
    except HpcDlError:
        raise
    except (ArgumentError, TypeError, ValueError, KeyError) as error:
        raise _explained(str(error), asked) from None
    return Settings(**{field.name: built[field.name] for field in fields(Settings)})


def _with_new_name(word: str) -> str:
    name, separator, value = word.removeprefix("--").partition("=")
    if not word.startswith("--") or name not in RENAMED:
        return word
    _tell_new_name(name)
    return f"--{RENAMED[name]}{separator}{value}"


def _with_new_names(values: Mapping[str, Any]) -> dict[str, Any]:
    renamed = {name: dict(group) if isinstance(group, Mapping) else group for name, group in values.items()}
    for old, new in RENAMED.items():
        group, _, name = old.partition(".")
        if isinstance(renamed.get(group), dict) and name in renamed[group]:
            _tell_new_name(old)
            renamed[group][new.partition(".")[2]] = renamed[group].pop(name)
    return renamed


def _tell_new_name(name: str) -> None:
    print(f"hpc-dl: warning: {name} is {RENAMED[name]} now; the old name goes with version 0.3", file=sys.stderr)


def _explained(text: str, asked: str) -> HpcDlError:
    """The library's message in our three beats, with the names next to a wrong one."""
    if match := re.search(r"unrecognized arguments: --([\w.]+)", text):
        return _unknown(match[1])
    if match := re.search(r"Group '([\w.]+)' does not accept option '([\w.]+)'", text):
        return _unknown(f"{match[1]}.{match[2]}")
    if match := re.search(r"""Parser key "([\w.]+)":\s*(.*)""", text, re.DOTALL):
        name, reason = match[1], match[2]
        given = re.search(r"(?:Got value|Given value): (.*)", reason)
        return HpcDlError(f"{name} = {given[1] if given else '?'}", "wrong type or choice", _show(name))
    return HpcDlError(asked, text.strip().splitlines()[0], "see `hpc-dl train --help` for names and types")


def _unknown(name: str) -> HpcDlError:
    group = name.rpartition(".")[0]
    neighbours = [known for known in _names() if known.startswith(f"{group}.")] if group else []
    return HpcDlError(f"setting {name}", "no such setting", nearest(name, neighbours or _names()))


def _show(name: str) -> str:
    types = _names()
    return f"{name} takes {types.get(name, 'a table of settings')}"


def _names() -> dict[str, str]:
    """Dotted name of each setting, and its type as written in the source."""
    names: dict[str, str] = {}
    default = Settings()
    for field in fields(Settings):
        group = getattr(default, field.name)
        if is_dataclass(group):
            names.update((f"{field.name}.{inner.name}", str(inner.type)) for inner in fields(group))
        else:
            names[field.name] = str(field.type)
    return names


def _is_group(name: str) -> bool:
    return is_dataclass(getattr(Settings(), name, None))


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _without_none(value) if isinstance(value, Mapping) else value
        for name, value in values.items()
        if value is not None
    }
