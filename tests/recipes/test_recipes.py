# SPDX-License-Identifier: Apache-2.0
"""Every recipe loads, says what to expect, and names parts that exist; reading them starts no torch."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys

import pytest

from hpc_dl.errors import HpcDlError
from hpc_dl.recipes import RECIPES, load
from hpc_dl.settings import Settings


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_named_after_itself_and_its_parts_exist(name: str) -> None:
    recipe = load(name)
    assert isinstance(recipe, Settings)
    assert recipe.name == name
    for path in filter(None, (recipe.task.model, recipe.task.loss, recipe.task.after, recipe.data.source)):
        module, value = path.split(":")
        assert callable(getattr(importlib.import_module(module), value)), path


@pytest.mark.parametrize("name", RECIPES)
def test_its_docstring_states_command_time_and_metric(name: str) -> None:
    text = importlib.import_module(RECIPES[name].split(":")[0]).__doc__ or ""
    line = re.search(rf"^ +hpc-dl train {name}  +([\d.]+ s .*?)  +(\w+) ([<>]?=) ([\d.]+)", text, re.MULTILINE)
    assert line, f"no line 'hpc-dl train {name}  TIME on ...  METRIC >= BOUND' in {RECIPES[name]}"


def test_unknown_names_list_the_near_ones() -> None:
    with pytest.raises(HpcDlError, match="did you mean mnist_cnn"):
        load("mnist_cn")


def test_loading_all_recipes_imports_no_torch() -> None:
    code = (
        "import sys; from hpc_dl.recipes import RECIPES, load; [load(name) for name in RECIPES];"
        "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
