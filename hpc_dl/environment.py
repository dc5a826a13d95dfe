# SPDX-License-Identifier: Apache-2.0
"""The process environment, read in this one place and handed on as a plain mapping."""

from __future__ import annotations

import os


def environment() -> dict[str, str]:
    """A copy of the environment as it is now; changing it changes nothing."""
    return dict(os.environ)
