# SPDX-License-Identifier: Apache-2.0
"""Words of a command and how they are written in a bash script: the one place where quoting happens."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence

from hpc_dl.errors import HpcDlError

_EXPANSION = re.compile(r"[A-Za-z_]\w*(\[(@|\d+)\](:\d+)?|(/[\w.]+)+)?")
_ESCAPES = {"\n": r"\n", "\t": r"\t", "\r": r"\r", "\\": r"\\", "'": r"\'"}


class Variable(str):
    """A shell variable whose value only the job knows: `nodes`, `train[@]`, or with a path below it: `launch/x.sh`."""

    def __new__(cls, name: str) -> Variable:
        if not _EXPANSION.fullmatch(name):
            raise ValueError(f"{name!r} is no shell variable")
        return super().__new__(cls, name)


Word = str
"""Text that is meant literally, or a `Variable`."""


def quote(word: Word) -> str:
    r"""The word as bash reads it back unchanged, always on one line.

    >>> print(quote("plain"), quote("two words"), quote("$(rm)"), quote("a\nb"), quote(Variable("nodes")))
    plain 'two words' '$(rm)' $'a\nb' "$nodes"
    """
    if isinstance(word, Variable):
        return f'"${{{word}}}"' if "[" in word else f'"${word}"'
    if "\0" in word:
        raise HpcDlError(f"the word {word!r}", "no command can carry a zero byte", "leave it out")
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in word):  # a line of its own could look like a directive
        return "$'" + "".join(map(_escape, word)) + "'"
    return shlex.quote(word)


def command(words: Sequence[Word], program: int = 0, indent: str = "    ", width: int = 110) -> str:
    """The words as one command over several lines; an option stays with its value.

    Args:
        words: The command.
        program: Number of words at the end that are the program started by the others: they begin a line of their own.
        indent: Of the second line and the following.
        width: In characters.
    """
    border = len(words) - program
    lines: list[str] = []
    for part in (words[:border], words[border:]):
        line = ""
        for text in _with_values(part):
            if line and len(line) + 1 + len(text) > width:
                lines.append(line)
                line = text
            else:
                line += (" " if line else "") + text
        lines.append(line)
    return f" \\\n{indent}".join(line for line in lines if line)


def _with_values(words: Sequence[Word]) -> list[str]:
    """The words quoted; an option and the one word behind it that is none are one text."""
    texts: list[str] = []
    previous_is_option = False
    for word in words:
        is_option = word.startswith("-")
        if previous_is_option and not is_option:
            texts[-1] += " " + quote(word)
        else:
            texts.append(quote(word))
        previous_is_option = is_option
    return texts


def array(name: str, words: Iterable[Word]) -> str:
    """An assignment of a bash array."""
    return f"{name}=({' '.join(map(quote, words))})"


def _escape(letter: str) -> str:
    if letter in _ESCAPES:
        return _ESCAPES[letter]
    return f"\\x{ord(letter):02x}" if ord(letter) < 32 or ord(letter) == 127 else letter
