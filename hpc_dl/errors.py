# SPDX-License-Identifier: Apache-2.0
"""The one exception users are meant to see: what was asked, what was found, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class HpcDlError(Exception):
    """A request that cannot be met.

    Args:
        asked: What the user asked for, in a few words ("engine 'horovod'").
        found: What stands against it ("horovod is not installed").
        remedy: What to do about it, as an instruction.
    """

    def __init__(self, asked: str, found: str, remedy: str) -> None:
        self.asked, self.found, self.remedy = asked, found, remedy
        super().__init__(f"{asked}: {found}\n  What to do: {remedy}")


def nearest(name: str, known: Iterable[str]) -> str:
    """A sentence that lists the known names, the closest to `name` first.

    >>> nearest("horovd", ["single", "horovod"])
    'did you mean horovod? Known: horovod, single'
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    listing = ", ".join(names)
    return f"did you mean {' or '.join(close)}? Known: {listing}" if close else f"known: {listing}"
