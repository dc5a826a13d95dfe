# SPDX-License-Identifier: Apache-2.0
"""What ranks got, told by a made-up /sys of Perlmutter and Aurora, and what rank 0 says of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fake_torch import BUSES, make

from hpc_dl.cluster import machines
from hpc_dl.cluster.rank import RankRecord
from hpc_dl.devices import binding, choose
from hpc_dl.devices.base import Device
from hpc_dl.devices.binding import Binding, format_cpu_list, observe
from hpc_dl.devices.binding_report import judge

PERLMUTTER, AURORA, LOCAL = (machines.load(name) for name in ("perlmutter", "aurora", "local"))


def cpus(text: str) -> frozenset[int]:
    return frozenset(binding.parse_cpu_list(text))


def on_perlmutter(local_rank: int) -> Binding:
    """As srun --cpu-bind=cores -c 32 binds, the GPU by the machine's map."""
    own = f"{16 * local_rank}-{16 * local_rank + 15},{64 + 16 * local_rank}-{64 + 16 * local_rank + 15}"
    return Binding("nid1", local_rank, cpus(own), 16, (local_rank,), f"cuda:{3 - local_rank}", local_rank, 16)


def on_aurora(local_rank: int) -> Binding:
    """As the machine's list A binds."""
    bind = AURORA.cpu_bind()
    assert bind is not None
    socket = local_rank // 6
    return Binding("x4519", local_rank, cpus(bind.cores[local_rank]), 4, (socket,), f"xpu:{local_rank}", socket, 4)


GOOD_PERLMUTTER = [on_perlmutter(rank) for rank in range(4)]
GOOD_AURORA = [on_aurora(rank) for rank in range(12)]


@pytest.mark.parametrize(("ranks", "machine"), [(GOOD_PERLMUTTER, PERLMUTTER), (GOOD_AURORA, AURORA)])
def test_the_binding_of_the_record_is_found_good(ranks: list[Binding], machine: machines.Machine) -> None:
    judgement = judge(ranks, machine, {"CCL_WORKER_AFFINITY": "42,43,94,95"} if machine is AURORA else {})
    assert judgement.problems == ()
    assert judgement.verdict == f"binding is as {machine.name}'s record wants it"


def everywhere(rank: Binding) -> Binding:
    return replace(rank, cpus=cpus("0-127"), cores=64, numa=(0, 1, 2, 3))


@pytest.mark.parametrize(
    ("ranks", "machine", "environ", "words"),
    [
        pytest.param(
            [replace(r, device="cpu", device_numa=None) for r in GOOD_PERLMUTTER],
            PERLMUTTER,
            {},
            "computes on the CPU, though a node has 4 cuda devices",
            id="no GPU",
        ),
        pytest.param(GOOD_AURORA[:6], AURORA, {}, "6 of 12 devices are idle", id="idle tiles"),
        pytest.param(
            [replace(r, cpus=cpus(str(16 * r.local_rank)), cores=1) for r in GOOD_PERLMUTTER],
            PERLMUTTER,
            {},
            "local rank 0-3 has 16 threads on 1 core",
            id="threads of the host on one core",
        ),
        pytest.param(
            [replace(r, cpus=cpus(str(16 * r.local_rank)), cores=1, threads=1) for r in GOOD_PERLMUTTER],
            PERLMUTTER,
            {},
            "local rank 0-3 has 1 of 32 CPUs (--cpu-bind cores)",
            id="one core each",
        ),
        pytest.param(
            [everywhere(r) for r in GOOD_PERLMUTTER],
            PERLMUTTER,
            {},
            "local rank 0-3 may run on other ranks' CPUs (--cpu-bind cores)",
            id="not bound",
        ),
        pytest.param(
            [everywhere(r) for r in GOOD_PERLMUTTER],
            PERLMUTTER,
            {},
            "local rank 0-3 reaches over 4 NUMA nodes",
            id="everywhere",
        ),
        pytest.param(
            [replace(r, device=f"cuda:{r.local_rank}", device_numa=3 - r.local_rank) for r in GOOD_PERLMUTTER],
            PERLMUTTER,
            {},
            "local rank 0-3 runs on NUMA node 0, its device cuda:0 hangs on 3",
            id="GPUs not reversed",
        ),
        pytest.param(
            [replace(GOOD_AURORA[0], cpus=cpus("0-3")), *GOOD_AURORA[1:]],
            AURORA,
            {},
            "local rank 0 may run on CPUs that the system keeps, 0, 52, 104, 156 (--cpu-bind A)",
            id="reserved core",
        ),
        pytest.param(
            [
                replace(r, cpus=cpus("49-51,53-57"), cores=8, numa=(0, 1)) if r.local_rank == 6 else r
                for r in GOOD_AURORA
            ],
            AURORA,
            {},
            "local rank 6 reaches over 2 NUMA nodes",
            id="bound by depth: rank 6 on both sockets",
        ),
        pytest.param(
            GOOD_AURORA,
            AURORA,
            {"CCL_WORKER_AFFINITY": "4,5,56"},
            "local rank 0, 6 shares CPUs with oneCCL's workers",
            id="oneCCL's workers",
        ),
    ],
)
def test_what_is_wrong_is_named(
    ranks: list[Binding], machine: machines.Machine, environ: Mapping[str, str], words: str
) -> None:
    judgement = judge(ranks, machine, environ)
    assert any(words in problem for problem in judgement.problems), judgement.problems
    assert words in judgement.verdict


def test_a_workstation_has_no_wishes() -> None:
    ranks = [Binding("here", rank, cpus("0-7"), 8, (0,), "cpu", None, 4) for rank in range(2)]
    assert judge(ranks, LOCAL, {"CCL_WORKER_AFFINITY": "auto"}).problems == ()


def test_hosts_that_are_alike_are_one_table_and_the_odd_one_is_named() -> None:
    hosts = [f"nid{number}" for number in range(8)]
    ranks = [replace(rank, host=host) for host in hosts for rank in GOOD_PERLMUTTER]
    ranks[21] = replace(ranks[21], cpus=cpus("0-15,64-79"))  # local rank 1 of nid5
    judgement = judge(reversed(ranks), PERLMUTTER, {})
    assert [len(group.hosts) for group in judgement.groups] in ([7, 1], [1, 7])
    assert all("(nid5)" in problem for problem in judgement.problems)
    assert "local rank 0-1 may run on other ranks' CPUs" in judgement.verdict
    text = judgement.text()
    assert text.count("device's NUMA") == 2
    assert "and 4 more" in text
    assert "16-31,80-95" in text


def test_the_record_for_the_log_is_plain_data() -> None:
    record = judge(GOOD_PERLMUTTER, PERLMUTTER, {}).record()
    assert record["machine"] == "perlmutter"
    assert record["problems"] == []
    assert record["groups"][0]["ranks"][1] == {
        "local_rank": 1,
        "cpus": "16-31,80-95",
        "cores": 16,
        "numa": "1",
        "device": "cuda:2",
        "device_numa": 1,
        "threads": 16,
    }


# Seeing.


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """A /sys with two NUMA nodes; the GPU on the first PCI bus hangs on node 1."""
    for node, own in enumerate(("0,2-9", "1,10-19")):
        (tmp_path / f"devices/system/node/node{node}").mkdir(parents=True)
        (tmp_path / f"devices/system/node/node{node}/cpulist").write_text(own + "\n")
    for bus, node in ((BUSES[0], "1"), (BUSES[1], "-1")):
        (tmp_path / f"bus/pci/devices/0000:{bus:02x}:00.0").mkdir(parents=True)
        (tmp_path / f"bus/pci/devices/0000:{bus:02x}:00.0/numa_node").write_text(node + "\n")
    return tmp_path


def device(kind: str, local_rank: int) -> Device:
    rank = RankRecord(0, 1, local_rank, 1, 0, "test")
    return choose(kind, rank, int, {}, torch=torch if kind == "cpu" else make(kind, {}, gpus=4))


@pytest.mark.parametrize("kind", ["cuda", "xpu"])
@pytest.mark.parametrize(("local_rank", "numa"), [(0, 1), (1, None), (2, None)])
def test_a_rank_sees_where_its_device_hangs(system: Path, kind: str, local_rank: int, numa: int | None) -> None:
    assert observe("here", local_rank, device(kind, local_rank), system).device_numa == numa


def test_a_rank_sees_its_cpus_and_their_numa_nodes(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {2, 3, 11})
    seen = observe("here", 0, device("cpu", 0), system)
    assert (seen.cpus, seen.cores, seen.numa, seen.device) == (frozenset({2, 3, 11}), 3, (0, 1), "cpu")


def test_this_very_process() -> None:
    seen = observe("here", 0, device("cpu", 0))
    assert seen.cpus == frozenset(os.sched_getaffinity(0))
    assert 1 <= seen.cores <= len(seen.cpus)
    assert judge([replace(seen, threads=seen.cores)], LOCAL, {}).problems == ()


@pytest.mark.parametrize("text", ["0-2,64", "5", "", "0,2,4-5"])
def test_cpu_list_there_and_back(text: str) -> None:
    assert format_cpu_list(binding.parse_cpu_list(text)) == text
