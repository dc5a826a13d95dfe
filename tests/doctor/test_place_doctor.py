# SPDX-License-Identifier: Apache-2.0
"""Checks of one place: each fault is named, with its remedy; where all is well nothing is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes import aurora, perlmutter, scene

from hpc_dl.doctor import places
from hpc_dl.doctor.place import examine
from hpc_dl.doctor.scene import Scene

OWN_MPIEXEC = Path("/env/bin/mpiexec")

FAULTS: tuple[tuple[Callable[..., Scene], dict[str, Any], str, str, str], ...] = (
    # place, what is changed, name of the finding, verdict, words of the remedy
    (aurora, {"python": Path("/usr/bin/python3")}, "python", "fail", "#!/bin/bash -l"),
    (aurora, {"packages": {"torch": "2.13.0+cpu"}}, "torch", "fail", "--system-site-packages"),
    (aurora, {"packages": {"torch": "2.13.0"}}, "torch", "fail", "constraints file"),
    (perlmutter, {"packages": {"torch": "2.13.0+cpu"}}, "torch", "fail", "CUDA build"),
    (scene, {"device": "cuda"}, "torch", "fail", "CUDA build"),
    (scene, {"packages": {}}, "torch", "warn", "hpc_dl[train]"),
    (scene, {"packages": {}, "launcher": "hydra"}, "torch", "fail", "hpc_dl[train]"),
    (aurora, {"engine": "horovod"}, "horovod", "fail", "--exchange.engine torch"),
    (perlmutter, {"engine": "horovod"}, "horovod", "fail", "launch/build_horovod.sh"),
    (aurora, {"packages": {"oneccl-bind-pt": "2.5.0"}}, "oneCCL bindings", "warn", "xccl"),
    (aurora, {"packages": {"intel-extension-for-pytorch": "2.8"}}, "IPEX", "warn", "torch.xpu"),
    (scene, {"environ": {"RANK": "0"}}, "rank", "fail", "unset variables left over"),
    (scene, {"environ": {"HPC_DL_WORLD_SIZE": "8"}}, "world size", "fail", "mpiexec or srun"),
    (scene, {"environ": {"HPC_DL_WORLD_SIZE": "many"}}, "world size", "fail", "correct it"),
    (perlmutter, {"environ": {"SLURM_STEP_ID": None}}, "batch shell", "warn", "srun -n 8"),
    (aurora, {"mpiexec": OWN_MPIEXEC}, "mpiexec", "fail", "behind the site's"),
    (aurora, {"launcher": "hydra"}, "mpiexec", "fail", "behind the site's"),
    (perlmutter, {"launcher": "openmpi"}, "mpiexec", "warn", "behind the site's"),
    (aurora, {"mpiexec": None}, "mpiexec", "fail", "load the site's MPI"),
    (scene, {"mpiexec": None}, "mpiexec", "warn", "hpc_dl[mpi]"),
    (aurora, {"folder": Path("/home/me/runs")}, "run folder", "fail", "/lus/flare"),
    (scene, {"environ": {"TMPDIR": "/scratch/" + "x" * 60}}, "TMPDIR length", "fail", "TMPDIR=/tmp"),
    (scene, {"free_bytes": {Path("/tmp"): 1000}}, "free space", "warn", "remove what you can"),
    (scene, {"open_files": (1024, 65536)}, "open files", "warn", "ulimit -n"),
    (scene, {"open_files": (1024, 1024)}, "open files", "warn", "ask the site"),
    (aurora, {"environ": {"CCL_PROCESS_LAUNCHER": "hydra"}}, "oneCCL launcher", "fail", "CCL_PROCESS_LAUNCHER=pmix"),
    (aurora, {"environ": {"CCL_PROCESS_LAUNCHER": None}}, "oneCCL launcher", "fail", "CCL_PROCESS_LAUNCHER=pmix"),
    (aurora, {"environ": {"CCL_ATL_TRANSPORT": "ofi"}}, "oneCCL transport", "fail", "CCL_ATL_TRANSPORT=mpi"),
    (aurora, {"environ": {"CCL_OP_SYNC": "0"}}, "oneCCL synchronous", "warn", "CCL_OP_SYNC=1"),
    (aurora, {"environ": {"CCL_WORKER_AFFINITY": "0,52"}}, "oneCCL worker cores", "fail", "hpc-dl machines"),
    (aurora, {"environ": {"CCL_WORKER_AFFINITY": "4,5"}}, "oneCCL workers and ranks", "warn", "same binding"),
    (aurora, {"environ": {"FI_MR_CACHE_MONITOR": "disabled"}}, "memory cache of the fabric", "warn", "userfaultfd"),
    (aurora, {"environ": {"ZE_FLAT_DEVICE_HIERARCHY": "COMPOSITE"}}, "device hierarchy", "warn", "FLAT"),
    (aurora, {"environ": {"ZE_AFFINITY_MASK": "0.1"}}, "device mask", "fail", "gpu_tile_compact.sh"),
    (aurora, {"environ": {"ONEAPI_DEVICE_SELECTOR": "opencl:gpu;level_zero:gpu"}}, "device selector", "warn", "twice"),
    (aurora, {"packages": {"wandb": "0.20"}}, "proxy", "warn", "WANDB_MODE=offline"),
    (scene, {"environ": {"FI_CXI_OVFLOW_BUF_SIZE": "1"}}, "misspelt fabric variable", "warn", "FI_CXI_OFLOW_BUF_SIZE"),
    (scene, {"environ": {"CUDA_VISIBLE_DEVICES": ""}}, "hidden devices", "fail", "unset it"),
    (perlmutter, {"environ": {"SLURM_GPUS_ON_NODE": None}}, "GPUs of the job", "fail", "--gpus-per-node=4"),
    (perlmutter, {"environ": {"NCCL_NET": None}}, "NCCL network", "warn", "nccl plugin module"),
    (perlmutter, {"environ": {"SLURM_JOB_NUM_NODES": "1"}}, "NCCL network on one node", "warn", "unset NCCL_NET"),
    (perlmutter, {"environ": {"FI_CXI_DISABLE_HOST_REGISTER": "0"}}, "host registration", "warn", "REGISTER=1"),
    (perlmutter, {"environ": {"MPICH_GPU_SUPPORT_ENABLED": "1"}}, "MPI on GPU buffers", "warn", "ENABLED=0"),
    (perlmutter, {"environ": {"OMP_PROC_BIND": "spread"}}, "OpenMP binding", "warn", "OMP_PLACES"),
    (perlmutter, {"environ": {"HDF5_USE_FILE_LOCKING": None}}, "file locks", "warn", "HDF5_USE_FILE_LOCKING=FALSE"),
)


@pytest.mark.parametrize(("place", "changes", "name", "verdict", "remedy"), FAULTS, ids=lambda value: str(value)[:40])
def test_faults(
    place: Callable[..., Scene], changes: dict[str, Any], name: str, verdict: str, remedy: str, tmp_path: Path
) -> None:
    named = [finding for finding in examine(place(tmp_path, **changes)) if finding.name == name]
    assert [finding.verdict for finding in named] == [verdict]
    assert remedy in named[0].remedy


def test_mpi4py_is_missed_under_pals(tmp_path: Path) -> None:
    bare = aurora(tmp_path)
    findings = {f.name: f for f in examine(aurora(tmp_path, packages={}))}
    assert findings["mpi4py"].verdict == "ok"
    without = Scene(**{**vars(bare), "packages": {"torch": "2.13.0a0+git1"}})
    findings = {f.name: f for f in examine(without)}
    assert findings["mpi4py"].verdict == "fail"
    assert findings["oneCCL key store"].verdict == "fail"


@pytest.mark.parametrize("place", [scene, aurora, perlmutter])
def test_a_good_place_has_no_findings(place: Callable[..., Scene], tmp_path: Path) -> None:
    assert [finding for finding in examine(place(tmp_path)) if finding.verdict != "ok"] == []


def test_the_checks_of_a_login_node_do_not_ask_for_what_a_job_has(tmp_path: Path) -> None:
    login = scene(tmp_path, "aurora", {}, packages={})
    assert [finding.name for finding in examine(login) if finding.verdict == "fail"] == []


def test_another_mpiexec_before_the_environments_own(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "mpiexec").touch()
    finding = next(f for f in examine(scene(tmp_path, prefix=tmp_path)) if f.name == "mpiexec")
    assert (finding.verdict, "separate worlds" in finding.remedy) == ("fail", True)


def test_ranks_of_the_right_launcher_are_not_asked_for_mpiexec(tmp_path: Path) -> None:
    for place, launcher in ((aurora, "pals"), (perlmutter, "slurm"), (scene, "pals"), (scene, "openmpi")):
        names = [finding.name for finding in examine(place(tmp_path, launcher=launcher, mpiexec=OWN_MPIEXEC))]
        assert "mpiexec" not in names


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    finding = next(f for f in examine(scene(tmp_path, folder=tmp_path / "file" / "runs")) if f.name == "run folder")
    assert finding.verdict == "fail"
    assert "Not a directory" in finding.found
    assert "--folder" in finding.remedy


def test_the_probe_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    for folder in (tmp_path / "kept", tmp_path / "new" / "deep"):
        assert places.probe(folder) > 0
    assert [path.name for path in tmp_path.rglob("*")] == ["kept"]
