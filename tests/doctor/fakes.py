# SPDX-License-Identifier: Apache-2.0
"""Scenes and sessions made of values, for checks of places and ranks this machine cannot be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hpc_dl.cluster import machines
from hpc_dl.cluster.worlds import Place
from hpc_dl.devices.binding import Binding
from hpc_dl.doctor.scene import Scene

LOCAL = {"torch": "2.13.0+cpu", "horovod": "0.28.1", "mpi4py": "4.1.2"}
AURORA_JOB = {
    "PBS_JOBID": "1.aurora",
    "HPC_DL_MACHINE": "aurora",
    "CCL_PROCESS_LAUNCHER": "pmix",
    "CCL_ATL_TRANSPORT": "mpi",
    "CCL_KVS_MODE": "mpi",
    "CCL_OP_SYNC": "1",
    "CCL_WORKER_AFFINITY": "42,43,44,45,46,47,94,95,96,97,98,99",
    "ZE_FLAT_DEVICE_HIERARCHY": "FLAT",
    "HDF5_USE_FILE_LOCKING": "FALSE",
}
PERLMUTTER_JOB = {
    "SLURM_JOB_ID": "31",
    "SLURM_JOB_NUM_NODES": "2",
    "SLURM_NTASKS": "8",
    "SLURM_GPUS_ON_NODE": "4",
    "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_STEP_TASKS_PER_NODE": "4(x2)",
    "NCCL_NET": "AWS Libfabric",
    "HDF5_USE_FILE_LOCKING": "FALSE",
}


def scene(tmp: Path, machine: str = "local", environ: dict[str, str] | None = None, **changes: Any) -> Scene:
    """A place where all is well, and what is changed of it."""
    good = Scene(
        environ=environ or {},
        machine=machines.load(machine),
        folder=tmp / "runs",
        python=Path("/env/bin/python"),
        prefix=Path("/env"),
        host="host",
        packages=LOCAL,
        mpiexec=Path("/usr/local/bin/mpiexec"),
        open_files=(20000, 20000),
        free_bytes={Path("/tmp"): 1 << 40},
    )
    return replace(good, **changes)


def aurora(tmp: Path, **changes: Any) -> Scene:
    """A job on two nodes of Aurora."""
    nodes = tmp / "nodes"
    nodes.write_text("x4101c0s0b0n0.cm.aurora\nx4101c0s1b0n0.cm.aurora\n")
    environ = {**AURORA_JOB, "PBS_NODEFILE": str(nodes), **changes.pop("environ", {})}
    packages = {"torch": "2.13.0a0+gitcf30153", "mpi4py": "4.1.2"} | changes.pop("packages", {})
    environ = {name: value for name, value in environ.items() if value is not None}
    return scene(tmp, "aurora", environ, packages=packages, **changes)


def perlmutter(tmp: Path, **changes: Any) -> Scene:
    """A task of srun on two GPU nodes of Perlmutter."""
    environ = {**PERLMUTTER_JOB, **changes.pop("environ", {})}
    environ = {name: value for name, value in environ.items() if value is not None}
    packages = {"torch": "2.8.0+cu128", "mpi4py": "4.1.2"} | changes.pop("packages", {})
    return scene(tmp, "perlmutter", environ, packages=packages, **changes)


class FakeEngine:
    """Rank 0's view of an engine: what others contribute is made from what this rank gives."""

    name = "torch"
    why = "asked for"

    def __init__(self, world_size: int, others: Callable[[Any, int], Any], backend: str, factor: float = 1.0) -> None:
        self.world_size, self._others, self.backend, self._factor = world_size, others, backend, factor

    def gather(self, value: Any) -> list[Any]:
        return [value, *(self._others(value, rank) for rank in range(1, self.world_size))]

    def broadcast(self, value: Any, root: int = 0) -> Any:
        return value

    def barrier(self) -> None:
        return None

    def reduce(self, tensor: Any, op: str, name: str) -> Any:
        return tensor

    def reduce_async(self, tensor: Any, op: str, name: str) -> Any:
        tensor.fill_(self.world_size * (self.world_size + 1) / 2 * self._factor)
        return SimpleNamespace(wait=lambda: None)


def session(
    others: Callable[[Any, int], Any] = lambda value, rank: value,
    hosts: Sequence[str] = ("n1", "n2"),
    masks: Sequence[frozenset[int]] = (frozenset({0}), frozenset({1})),
    backend: str = "gloo",
    factor: float = 1.0,
    device: str = "cpu",
) -> Any:
    """A session as rank 0 sees it."""
    import torch

    size = len(hosts)
    arrivals = []
    for rank, host in enumerate(hosts):
        local = hosts[:rank].count(host)
        place = Place(rank, size, host, local, hosts.count(host), None)
        arrivals.append(
            SimpleNamespace(place=place, binding=Binding(host, local, masks[rank], len(masks[rank]), (), "cpu", None))
        )
    return SimpleNamespace(
        rank=0,
        world_size=size,
        engine=FakeEngine(size, others, backend, factor),
        arrivals=arrivals,
        record=SimpleNamespace(launcher="hydra"),
        device=SimpleNamespace(name=device, torch_device=torch.device("cpu"), synchronize=lambda: None),
    )
