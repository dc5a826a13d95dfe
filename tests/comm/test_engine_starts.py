# SPDX-License-Identifier: Apache-2.0
"""What is said before an engine binds devices or ends in words of its own, with stand-ins for store, group and MPI."""

from __future__ import annotations

import itertools
import sys
import types
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
import torch.distributed as dist

from hpc_dl.cluster.rank import RankRecord
from hpc_dl.comm import mpi, torch_distributed
from hpc_dl.comm.torch_distributed import TorchEngine
from hpc_dl.devices.cpu import Cpu
from hpc_dl.errors import HpcDlError


class Gpu(Cpu):
    """As far as the engine looks at it."""

    default_backend = "nccl"

    def __init__(self, uuid: str) -> None:
        super().__init__(torch, None, "a stand-in")
        self._uuid = uuid

    def identity(self) -> str | None:
        return self._uuid


@pytest.fixture
def bound(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Ranks whose process group has started; the ranks of a test are threads and meet in one store."""
    store, started = dist.HashStore(), []

    def init(backend: str, *, rank: int, **_: Any) -> None:
        assert backend == "nccl"
        started.append(rank)

    monkeypatch.setattr(torch_distributed, "_store", lambda *_: store)
    monkeypatch.setattr(torch_distributed, "_sessions", itertools.repeat(0))
    monkeypatch.setattr(dist, "init_process_group", init)
    monkeypatch.setattr(dist, "get_rank", lambda: 0)
    monkeypatch.setattr(dist, "get_world_size", lambda: 1)
    return started


def start(uuids: list[str], hosts: list[str] | None = None) -> list[str]:
    """What each rank is told."""
    hosts = hosts or ["node1"] * len(uuids)

    def one(rank: int) -> str:
        record = RankRecord(rank, len(uuids), rank, len(uuids), None, "torchrun", hosts[rank])
        try:
            TorchEngine().start(record, Gpu(uuids[rank]), {"MASTER_ADDR": "here", "MASTER_PORT": "29500"}, 20.0)
        except HpcDlError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(len(uuids)) as pool:
        return list(pool.map(one, range(len(uuids))))


def test_two_ranks_of_one_device_are_told_so_before_the_group_binds_it(bound: list[int]) -> None:
    (sentence,) = set(start(["GPU-a", "GPU-b", "GPU-b"]))
    assert "rank 1 on node1 and rank 2 on node1 use the same device GPU-b" in sentence
    assert "host_staging" in sentence
    assert not bound


def test_devices_of_their_own_are_bound(bound: list[int]) -> None:
    assert start(["GPU-a", "GPU-b", "GPU-a"], ["node1", "node1", "node2"]) == [""] * 3
    assert sorted(bound) == [0, 1, 2]


@pytest.mark.parametrize(
    ("installed", "found", "remedy"),
    [
        (False, "mpi4py is not installed", "install mpi4py"),
        (True, "mpi4py is installed, but no MPI library loads (cannot load MPI library)", "libmpi on LD_LIBRARY_PATH"),
    ],
)
def test_a_missing_mpi4py_is_told_from_one_that_finds_no_library(
    installed: bool, found: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoLibrary(types.ModuleType):
        rc = types.SimpleNamespace()
        __path__: list[str] = []

        def __getattr__(self, name: str) -> Any:
            raise RuntimeError("cannot load MPI library\nlibmpi.so: not found") if name == "MPI" else AttributeError

    monkeypatch.setitem(sys.modules, "mpi4py", NoLibrary("mpi4py") if installed else None)
    monkeypatch.delitem(sys.modules, "mpi4py.MPI", raising=False)
    mpi.module.cache_clear()
    mpi._imported.cache_clear()
    try:
        record = RankRecord(0, 2, 0, 2, None, "hydra")
        with pytest.raises(HpcDlError) as caught:
            TorchEngine().start(record, Cpu(torch, None, "a stand-in"), {}, 20.0)
    finally:
        mpi.module.cache_clear()
        mpi._imported.cache_clear()
    assert found in caught.value.found
    assert remedy in caught.value.remedy
