# SPDX-License-Identifier: Apache-2.0
"""What settings and machine records let a user choose is what the tables of the rooms hold, no more and no less."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import get_args

import pytest

from hpc_dl import arguments, comm, devices
from hpc_dl.checks import choices_of
from hpc_dl.cli import main
from hpc_dl.cluster.machine import Machine
from hpc_dl.comm.wrap import WIRE_DTYPES
from hpc_dl.devices.base import PRECISIONS
from hpc_dl.devices.ipex import DTYPES
from hpc_dl.errors import HpcDlError
from hpc_dl.jobs.launch_command import LAUNCHERS
from hpc_dl.jobs.schedulers import SCHEDULERS
from hpc_dl.predict.observed import COMPRESSION
from hpc_dl.run.progress import Style
from hpc_dl.settings import OPTIMIZERS, ScheduleSettings, Settings
from hpc_dl.training import optimizers
from hpc_dl.training.schedule import DECAYS, SCALING, decay_factor

GROUPS = {field.name: getattr(Settings(), field.name) for field in fields(Settings) if field.name != "name"}
CHOICES = [(group, name) for group, value in GROUPS.items() for name in choices_of(type(value))]
TABLES = {
    "exchange.engine": ("auto", *comm.ENGINES),
    "exchange.compression": tuple(WIRE_DTYPES),
    "device.name": ("auto", *devices.DEVICES),
    "device.precision": tuple(PRECISIONS),
    "schedule.scaling": ("auto", *SCALING),
    "schedule.decay": tuple(DECAYS),
    "log.progress": get_args(Style),
}
OF_MACHINES = {
    "scheduler": (*SCHEDULERS, "none"),
    "launcher": tuple(LAUNCHERS),
    "device": tuple(devices.DEVICES),
}


@pytest.mark.parametrize("setting", TABLES)
def test_a_setting_offers_the_rows_of_its_table(setting: str) -> None:
    group, _, name = setting.partition(".")
    assert set(choices_of(type(GROUPS[group]))[name]) == set(TABLES[setting])


@pytest.mark.parametrize("name", OF_MACHINES)
def test_a_machine_record_may_name_the_rows_of_a_table(name: str) -> None:
    assert set(choices_of(Machine)[name]) == set(OF_MACHINES[name])


def test_every_choice_of_a_machine_record_has_its_table() -> None:
    assert set(choices_of(Machine)) == set(OF_MACHINES)


def test_the_names_of_optimizers_are_those_of_the_table() -> None:
    assert set(OPTIMIZERS) == set(optimizers.OPTIMIZERS)


def test_tables_for_some_of_the_choices_know_no_others() -> None:
    assert set(DTYPES) <= set(PRECISIONS)
    assert set(COMPRESSION) <= set(WIRE_DTYPES)
    assert set(devices.AUTO_ORDER) == set(devices.DEVICES)


@pytest.mark.parametrize("decay", choices_of(ScheduleSettings)["decay"])
def test_every_decay_but_none_lets_the_rate_fall(decay: str) -> None:
    settings = ScheduleSettings(decay=decay, decay_every_steps=10)
    assert (decay_factor(50, 100, settings) < 1) == (decay != "none")


@pytest.mark.parametrize(("group", "name"), CHOICES)
def test_a_choice_that_does_not_exist_is_refused_by_name(group: str, name: str) -> None:
    kind = type(GROUPS[group])
    for known in choices_of(kind)[name]:
        kind(**{name: known})
    with pytest.raises(HpcDlError, match=rf"(?s){group}\.{name} = 'zzz': no such choice.*known: "):
        kind(**{name: "zzz"})


def test_the_help_of_every_flag_lists_its_choices(capsys: pytest.CaptureFixture[str]) -> None:
    arguments.settings_parser("train", Settings()).print_help()
    help_text = re.sub(r"\s+", "", capsys.readouterr().out)
    for group, name in CHOICES:
        assert f"--{group}.{name}{{{','.join(choices_of(type(GROUPS[group]))[name])}}}" in help_text


@pytest.mark.parametrize("command", ["bench", "doctor", "predict"])
def test_other_commands_take_the_engines_of_more_than_one_rank(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    (listed,) = set(re.findall(r"--engine {(.*?)}", capsys.readouterr().out))
    assert set(listed.split(",")) - {"auto", "mpi"} == set(comm.ENGINES) - {"single"}
