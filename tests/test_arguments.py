# SPDX-License-Identifier: Apache-2.0
"""Settings come from flags and TOML files; what is wrong with them is said with the name of the field."""

from __future__ import annotations

import ast
import inspect
import itertools
import re
from dataclasses import fields
from pathlib import Path

import pytest

from hpc_dl import arguments
from hpc_dl.commands.train import main, read_settings
from hpc_dl.errors import HpcDlError
from hpc_dl.settings import OptimizerSettings, Settings


def test_flags_override_a_recipe() -> None:
    settings = read_settings("mnist_cnn", ["--optimizer.learning_rate", "0.5", "--data.options.seed", "3"])
    assert settings.name == "mnist_cnn"
    assert settings.optimizer.learning_rate == 0.5
    assert settings.data.options["seed"] == 3


def test_a_file_overrides_the_recipe_it_names_and_flags_override_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('recipe = "mnist_cnn"\nname = "mine"\n[training]\nepochs = 7\nlocal_batch = 32\n')
    settings = read_settings(str(path), ["--training.epochs", "9"])
    assert (settings.name, settings.training.epochs, settings.training.local_batch) == ("mine", 9, 32)
    assert settings.optimizer == read_settings("mnist_cnn", []).optimizer


def test_toml_goes_back_and_forth(tmp_path: Path) -> None:
    settings = read_settings("fashion_cnn", ["--training.clip_norm", "1.5", "--task.model_options.dropout", "0.1"])
    path = tmp_path / "settings.toml"
    path.write_text(arguments.to_toml(settings))
    assert read_settings(str(path), []) == settings


WRONG = {
    "an unknown flag": (["--optimizer.learning_rte", "1"], "optimizer.learning_rte", "learning_rate"),
    "an unknown group": (["--optimiser.name", "sgd"], "optimiser.name", "optimizer.name"),
    "not a number": (["--training.epochs", "many"], "training.epochs", "int"),
    "a fraction of an epoch": (["--training.epochs", "1.5"], "training.epochs", "int"),
    "not a choice": (["--optimizer.name", "adamm"], "optimizer.name", "adam"),
    "out of range": (["--optimizer.learning_rate", "-0.1"], "optimizer.learning_rate", "greater than 0"),
    "no import path": (["--task.model", "resnet"], "task.model", "package.module:name"),
    "betas": (["--optimizer.betas", "[0.9, 1.5]"], "optimizer.betas", "[0, 1)"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_flag_names_the_field_and_what_it_takes(case: str) -> None:
    flags, field, hint = WRONG[case]
    with pytest.raises(HpcDlError) as caught:
        read_settings("mnist_cnn", flags)
    assert field in str(caught.value)
    assert hint in str(caught.value)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("[optimizer]\nlearning_rte = 1\n", "optimizer.learning_rte"),
        ("[optimiser]\nname = 'sgd'\n", "optimiser"),
        ("optimizer = 3\n", "optimizer"),
        ("[training]\nepochs = 'many'\n", "training.epochs"),
        ("[training]\nlocal_batch = -1\n", "training.local_batch"),
        ("training = [\n", "wrong.toml"),
        ("recipe = 'mnist_cn'\n", "mnist_cn"),
    ],
)
def test_a_wrong_file_names_the_field(tmp_path: Path, text: str, field: str) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(HpcDlError) as caught:
        read_settings(str(path), [])
    assert field in str(caught.value)


def test_every_field_has_a_flag_and_its_docstring_is_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    arguments.settings_parser("train", Settings()).print_help()
    help_text = re.sub(r"\s+", "", capsys.readouterr().out)  # the library breaks lines where it likes
    groups = {str(field.type): field.name for field in fields(Settings) if field.name != "name"}
    described = 0
    for name in groups.values():
        (group,) = ast.parse(inspect.getsource(type(getattr(Settings(), name)))).body
        assert isinstance(group, ast.ClassDef)
        for field, text in itertools.pairwise(group.body):
            if isinstance(field, ast.AnnAssign):
                assert isinstance(text, ast.Expr), f"{group.name}.{ast.unparse(field.target)} has no docstring"
                assert f"--{groups[group.name]}.{ast.unparse(field.target)}" in help_text
                assert re.sub(r"\s+", "", ast.literal_eval(text.value)) in help_text
                described += 1
    assert described == sum(len(fields(getattr(Settings(), name))) for name in groups.values())


def test_effective_settings_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mnist_cnn", "--print_settings", "--optimizer.name", "sgd"], {}) == 0
    printed = capsys.readouterr().out
    assert '[optimizer]\nname = "sgd"' in printed


@pytest.mark.parametrize(
    "words",
    [
        ["--print_settings", "mnist_cnn", "--optimizer.name", "sgd"],
        ["--optimizer.name", "sgd", "mnist_cnn", "--print_settings"],
        ["--optimizer.name=sgd", "--print_settings", "mnist_cnn"],
    ],
)
def test_flags_stand_before_or_behind_the_recipe(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words, {}) == 0
    assert '[optimizer]\nname = "sgd"' in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--print_settings"], ["--optimizer.name", "sgd"], ["--optimizer.name"]])
def test_flags_without_a_recipe_are_answered(words: list[str]) -> None:
    with pytest.raises(HpcDlError, match=r"no recipe and no TOML file(.|\n)*hpc-dl recipes"):
        main(words, {})


def test_settings_built_in_python_are_checked_too() -> None:
    with pytest.raises(HpcDlError, match=r"optimizer\.momentum"):
        OptimizerSettings(momentum=-1)


def test_old_names_of_settings_are_taken_with_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "old.toml"
    path.write_text('[checkpoint]\nlast = false\nstop_seconds = 7\n[task]\nafter = "a:b"\n')
    settings = read_settings(str(path), ["--training.largest_batch", "true", "--checkpoint.stop_seconds=9"])
    assert (settings.checkpoint.at_end, settings.checkpoint.stop_margin_seconds) == (False, 9)
    assert (settings.task.on_finish, settings.training.find_largest_batch) == ("a:b", True)
    told = capsys.readouterr().err
    assert "warning: checkpoint.last is checkpoint.at_end now; the old name goes with version 0.3" in told
    assert "training.largest_batch is training.find_largest_batch now" in told
