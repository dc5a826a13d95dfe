# SPDX-License-Identifier: Apache-2.0
"""The examples in docstrings are true, all of them."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLE = re.compile(r"^\s*>>> ", re.MULTILINE)
EXAMPLES = {
    path.relative_to(ROOT).with_suffix("").as_posix().replace("/", "."): count
    for folder in ("hpc_dl", "testbed", "benchmarks")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if (count := len(EXAMPLE.findall(path.read_text(encoding="utf-8"))))
}


@pytest.mark.parametrize("module", EXAMPLES)
def test_examples(module: str) -> None:
    outcome = doctest.testmod(importlib.import_module(module.removesuffix(".__init__")))
    assert outcome.failed == 0
    assert outcome.attempted == EXAMPLES[module], "an example that doctest does not find"
