# SPDX-License-Identifier: Apache-2.0
"""The page on ports says what its command prints, and the command counts what a reader of the code would."""

from __future__ import annotations

from pathlib import Path

from examples.ports.lines import change, code_lines, needed, table

SCRIPT = '''
"""What it is for."""
import os  # a comment
from a import b


@b
def main():
    """Do it."""
    return helper()


def helper():
    # nothing
    return 1


def other():
    return os.sep
'''


def test_the_page_has_the_table_that_the_command_prints() -> None:
    page = Path(__file__).parents[1] / "docs" / "ports.md"
    assert table() in page.read_text(encoding="utf-8")


def test_comments_docstrings_blank_lines_and_indentation_do_not_count() -> None:
    assert code_lines(SCRIPT)[:5] == ["import os", "from a import b", "@b", "def main():", "return helper()"]
    assert change(code_lines(SCRIPT), code_lines(SCRIPT.replace("    return 1", "    if 1:\n        return 1"))) == (
        1,
        0,
    )


def test_a_version_counts_with_what_it_needs() -> None:
    found = code_lines(needed(SCRIPT, {"main"}))
    assert found == ["from a import b", "@b", "def main():", "return helper()", "def helper():", "return 1"]
