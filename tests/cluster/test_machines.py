# SPDX-License-Identifier: Apache-2.0
"""Machine records: complete, sourced, and refused with the place where they are wrong."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from hpc_dl.cluster import machines
from hpc_dl.cluster.machine import Sourced
from hpc_dl.commands import machines as command
from hpc_dl.errors import HpcDlError

SITES = ("aurora", "perlmutter", "polaris")


@pytest.mark.parametrize("name", SITES)
def test_every_fact_carries_source_and_date(name: str) -> None:
    machine = machines.load(name)
    groups = []
    for entry in fields(machine):
        value = getattr(machine, entry.name)
        groups += [group for group in (value if isinstance(value, tuple) else (value,)) if isinstance(group, Sourced)]
    assert len(groups) > 15
    assert [group for group in groups if group.source == "your file" or not group.date] == []
    assert machine.never_run


@pytest.mark.parametrize(
    ("name", "order"),
    [("perlmutter", [3, 2, 1, 0]), ("aurora", list(range(12))), ("polaris", [0, 1, 2, 3]), ("local", [0])],
)
def test_device_of_each_local_rank(name: str, order: list[int]) -> None:
    machine = machines.load(name)
    assert [machine.device_index(rank) for rank in range(machine.ranks_per_node)] == order


def expand(cores: str) -> set[int]:
    first, _, last = cores.partition("-")
    return set(range(int(first), int(last or first) + 1))


@pytest.mark.parametrize("name", SITES)
def test_binding_lists_give_each_rank_its_own_cores_of_one_socket(name: str) -> None:
    machine = machines.load(name)
    per_socket = machine.node.cores // machine.node.sockets
    for bind in machine.cpu_binds:
        sets = [expand(cores) for cores in bind.cores]
        assert len(sets) == machine.ranks_per_node
        assert sum(map(len, sets)) == len(set().union(*sets)), f"{bind.name}: ranks share cores"
        assert not set().union(*sets) & set(machine.ranks.reserved_cores)
        assert all(len({core // per_socket for core in cores}) == 1 for cores in sets), f"{bind.name}: across sockets"
        workers = {int(core) for core in bind.worker_affinity.split(",") if core}
        assert not workers & set().union(*sets), f"{bind.name}: oneCCL's workers on the ranks' cores"


@pytest.mark.parametrize(
    ("environ", "host", "name"),
    [
        ({}, "x4519c3s1b0n0", "aurora"),
        ({}, "x3005c0s13b1n0", "polaris"),
        ({}, "nid001234", "perlmutter"),
        ({"NERSC_HOST": "perlmutter"}, "login21", "perlmutter"),
        ({"NERSC_HOST": "other"}, "login21", "local"),
        ({}, "laptop", "local"),
        ({"HPC_DL_MACHINE": "aurora"}, "laptop", "aurora"),
    ],
)
def test_which_machine_is_this(environ: dict[str, str], host: str, name: str) -> None:
    assert machines.find(environ, host).name == name


def test_own_cluster_from_a_short_file(tmp_path: Path) -> None:
    file = tmp_path / "tulip.toml"
    file.write_text('scheduler = "slurm"\nlauncher = "srun"\n[ranks]\nper_node = 8\n[[queues]]\nname = "long"\n')
    machine = machines.load(str(file))
    assert (machine.name, machine.ranks_per_node, machine.queues[0].name) == ("tulip", 8, "long")
    assert machines.find({"HPC_DL_MACHINE": str(file)}) == machine


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('sheduler = "slurm"', "did you mean scheduler"),
        ('scheduler = "lsf"', "known: none, pbs, slurm"),
        ("[ranks]\nper_node = '4'", "ranks: per_node = '4'"),
        ("[ranks]\nper_nodes = 4", "did you mean per_node"),
        ("queues = 3", "queues: 3 is not a list"),
        ("ranks = 3", "ranks: 3 is not a table"),
        ('[[job.refused]]\noption = "-p"', "why is missing"),
        ("[identity]\nvariables = { A = 1 }", "not a table of texts"),
        ("scheduler = ", "machine file"),
    ],
)
def test_a_wrong_file_is_refused_with_its_place(tmp_path: Path, text: str, place: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(HpcDlError, match=place.replace("[", r"\[")):
        machines.load(str(file))


def test_unknown_machine_names_the_known() -> None:
    with pytest.raises(HpcDlError, match="did you mean perlmutter"):
        machines.load("perlmuter")


def test_command_shows_table_and_record(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "login21")  # these tests may run on Aurora
    assert command.main([], {"NERSC_HOST": "perlmutter"}) == 0
    assert "This is: perlmutter" in capsys.readouterr().out
    assert command.main(["aurora"], {}) == 0
    shown = capsys.readouterr().out
    assert "ever run on Aurora" in shown.splitlines()[1]
    assert "4-7, 8-11, 12-15" in shown
    assert shown.count("source: ") > 15
