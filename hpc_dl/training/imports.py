# SPDX-License-Identifier: Apache-2.0
"""Objects by import path, with errors that say which part is wrong."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from hpc_dl.errors import HpcDlError, nearest


def import_object(path: str, setting: str, names: Iterable[str] = ()) -> Any:
    """The object at "package.module:name".

    Args:
        path: The import path.
        setting: The setting it was given in, for the error.
        names: Short names that are known besides, for the error.
    """
    module_name, _, attribute = path.partition(":")
    if not attribute:
        hint = nearest(path, names) if names else "it is not of the form package.module:name"
        raise HpcDlError(f"{setting} = {path!r}", hint, "give a known name or an import path package.module:name")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise HpcDlError(
            f"{setting} = {path!r}", f"importing {module_name} failed: {error}", "check the path and what it imports"
        ) from error
    if not hasattr(module, attribute):
        public = [name for name in vars(module) if not name.startswith("_")]
        raise HpcDlError(f"{setting} = {path!r}", f"{module_name} has no {attribute}", nearest(attribute, public))
    return getattr(module, attribute)


def call_path(path: str, setting: str, options: Mapping[str, Any], *arguments: Any) -> Any:
    """Call what an import path names; a wrong option is the user's, every other error goes through.

    Args:
        path: The import path.
        setting: The setting it was given in, for the error.
        options: Keyword arguments, from the settings.
        arguments: Positional ones, not from there.
    """
    maker = import_object(path, setting)
    try:
        inspect.signature(maker).bind(*arguments, **options)
    except TypeError as error:
        raise HpcDlError(f"{setting} = {path!r}", str(error), f"correct {setting.split('.')[0]} options") from error
    except ValueError:  # something built in, without a signature
        pass
    return maker(*arguments, **options)
