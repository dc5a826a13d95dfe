# SPDX-License-Identifier: Apache-2.0
"""Every recipe loads, says what to expect, and names parts that exist; reading them starts no torch."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys

import pytest

from hpc_dl import cli
from hpc_dl.errors import HpcDlError
from hpc_dl.recipes import RECIPES, expectation, load
from hpc_dl.settings import Settings


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_named_after_itself_and_its_parts_exist(name: str) -> None:
    recipe = load(name)
    assert isinstance(recipe, Settings)
    assert recipe.name == name
    for path in filter(None, (recipe.task.model, recipe.task.loss, recipe.task.on_finish, recipe.data.source)):
        module, value = path.split(":")
        assert callable(getattr(importlib.import_module(module), value)), path


@pytest.mark.parametrize("name", RECIPES)
def test_its_docstring_states_command_time_and_metric(name: str) -> None:
    stated, recipe = expectation(name), load(name)
    assert re.match(r"[\d.]+ s ", stated.time)
    assert stated.bound > 0
    metrics = {metric.rpartition(":")[2] for metric in recipe.task.metric_names}
    assert stated.metric in metrics | {"parameters"}


def test_the_command_lists_all_recipes_and_describes_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["recipes"]) == 0
    table = capsys.readouterr().out
    assert [line.split()[0] for line in table.splitlines()[: len(RECIPES)]] == list(RECIPES)
    assert "accuracy >= 0.98" in table
    assert cli.main(["recipes", "ols"]) == 0
    described = capsys.readouterr().out
    assert "X^T X" in described
    assert 'source = "hpc_dl.data.tables:diabetes"' in described
    assert cli.main(["recipes", "old"]) == 2
    assert "did you mean ols" in capsys.readouterr().err


def test_unknown_names_list_the_near_ones() -> None:
    with pytest.raises(HpcDlError, match="did you mean mnist_cnn"):
        load("mnist_cn")


def test_listing_the_recipes_imports_no_torch() -> None:
    code = (
        "import sys; from hpc_dl import cli; cli.main(['recipes']); cli.main(['recipes', 'gpt']);"
        "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
