# SPDX-License-Identifier: Apache-2.0
"""A doubt about a study, in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["problem", "question", "remark"]


@dataclass(frozen=True)
class Note:
    """One doubt: a problem spoils a number, a question asks for a look, a remark says what was done."""

    level: Level
    text: str
