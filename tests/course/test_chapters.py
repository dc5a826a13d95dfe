# SPDX-License-Identifier: Apache-2.0
"""Chapters are whole: code that parses, three exercises with solutions, recipes that exist, links that lead somewhere.

That they run is `make course`.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from hpc_dl.recipes import RECIPES

COURSE = Path(__file__).parents[2] / "docs" / "course"
CHAPTERS = sorted(COURSE.glob("[0-9]*.md"))
SOLUTIONS = COURSE / "solutions"


def cells(path: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_there_are_nine_chapters_in_order() -> None:
    assert [path.name[:2] for path in CHAPTERS] == [f"{number:02}" for number in range(9)]
    overview = (COURSE / "README.md").read_text(encoding="utf-8")
    assert all(path.name in overview for path in CHAPTERS)


@pytest.mark.parametrize("path", [*CHAPTERS, *sorted(SOLUTIONS.glob("*.md"))], ids=lambda path: path.stem)
def test_code_cells_parse(path: Path) -> None:
    found = cells(path)
    assert found
    for cell in found:
        ast.parse("\n".join(line for line in cell.splitlines() if not line.startswith("!")))


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_goes_to_n_nodes_and_has_three_exercises_with_solutions(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert "## Now on N nodes" in text or "08" in path.name
    exercises = text.partition("## Exercises")[2]
    assert re.findall(r"^(\d)\. ", exercises, re.MULTILINE) == ["1", "2", "3"]
    solution = (SOLUTIONS / path.name).read_text(encoding="utf-8")
    assert re.findall(r"^## (\d) ", solution, re.MULTILINE) == ["1", "2", "3"]
    assert "assert" in "".join(cells(SOLUTIONS / path.name))


@pytest.mark.parametrize("path", [COURSE / "README.md", *CHAPTERS], ids=lambda path: path.stem)
def test_links_and_recipes_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert (path.parent / link).exists(), link
    for recipe in re.findall(r"hpc-dl (?:train|recipes) (\w+)(?!\.toml)\b", text):
        assert recipe in RECIPES or recipe == "mine", recipe
