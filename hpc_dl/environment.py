# SPDX-License-Identifier: Apache-2.0
"""The process environment, read and written in this one place only, and handed on as a plain mapping."""

from __future__ import annotations

import os


def environment() -> dict[str, str]:
    """A copy of the environment as it is now; changing it changes nothing."""
    return dict(os.environ)


def give(name: str, value: str) -> None:
    """Set a variable that is not set yet, for a library that reads the environment by itself."""
    os.environ.setdefault(name, value)
