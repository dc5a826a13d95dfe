# SPDX-License-Identifier: Apache-2.0
"""Checks of environment variables, one table row each: values known to hang, slow down or break runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from hpc_dl.doctor import conditions as c
from hpc_dl.doctor.finding import Finding, Verdict
from hpc_dl.doctor.scene import Scene


class Rule(NamedTuple):
    """One mistake and its remedy."""

    name: str
    here: Callable[[Scene], bool]
    """Does the rule concern this place?"""
    wrong: Callable[[Scene], str]
    """What is wrong, in words; empty where nothing is."""
    verdict: Verdict
    remedy: str
    source: str


def check_variables(scene: Scene) -> list[Finding]:
    """The rules that concern this place; those that hold are summed up in one finding."""
    concerned = [rule for rule in RULES if rule.here(scene)]
    found = [
        Finding(rule.name, rule.verdict, text, f"{rule.remedy} [{rule.source}]")
        for rule in concerned
        if (text := rule.wrong(scene))
    ]
    good = len(concerned) - len(found)
    return [Finding("variables", "ok", f"{good} rules for {scene.machine.name} hold"), *found] if good else found


ONECCL = "ALCF user guides, oneCCL.md, 2026-08"
RUNNING = "ALCF user guides, running-jobs-aurora.md, 2026-08"
HPE = "HewlettPackard/shs-ccl-docs, 2026-04"

RULES = (
    Rule(
        "oneCCL launcher",
        c.xpu_job,
        c.value_is("CCL_PROCESS_LAUNCHER", "", "hydra"),
        "fail",
        "export CCL_PROCESS_LAUNCHER=pmix: oneCCL's default, hydra, finds no ranks under PALS",
        ONECCL,
    ),
    Rule(
        "oneCCL transport",
        c.xpu_nodes,
        c.value_is_not("CCL_ATL_TRANSPORT", "mpi"),
        "fail",
        "export CCL_ATL_TRANSPORT=mpi",
        ONECCL,
    ),
    Rule(
        "oneCCL key store",
        c.xpu_job,
        c.no_mpi_for_kvs,
        "fail",
        "load the site's mpi4py: it must start MPI before the process group",
        ONECCL,
    ),
    Rule(
        "oneCCL synchronous",
        c.xpu_nodes,
        c.value_is("CCL_OP_SYNC", "", "0"),
        "warn",
        "export CCL_OP_SYNC=1 CCL_ATL_SYNC_COLL=1: the first collective may hang over several nodes",
        "ALCF notes on frameworks/2026.1.0, 2026-09",
    ),
    Rule(
        "oneCCL worker cores",
        c.xpu_job,
        c.reserved_cores,
        "fail",
        "take the list of the machine's binding (`hpc-dl machines`)",
        RUNNING,
    ),
    Rule(
        "oneCCL workers and ranks",
        c.xpu_job,
        c.workers_on_rank_cores,
        "warn",
        "take CCL_WORKER_AFFINITY of the same binding, or leave it unset",
        ONECCL,
    ),
    Rule(
        "misspelt fabric variable",
        c.everywhere,
        c.is_set("FI_CXI_OVFLOW_BUF_SIZE"),
        "warn",
        "the right name is FI_CXI_OFLOW_BUF_SIZE; this one is ignored",
        "ALCF's tensorflow.md has it wrong, 2026-08",
    ),
    Rule(
        "memory cache of the fabric",
        c.xpu_nodes,
        c.value_is("FI_MR_CACHE_MONITOR", "disabled"),
        "warn",
        "export FI_MR_CACHE_MONITOR=userfaultfd, unless you measured that your code wants it off",
        ONECCL,
    ),
    Rule(
        "device hierarchy",
        c.xpu_job,
        c.value_is("ZE_FLAT_DEVICE_HIERARCHY", "", "COMPOSITE"),
        "warn",
        "export ZE_FLAT_DEVICE_HIERARCHY=FLAT: 12 devices a node, one per tile",
        RUNNING,
    ),
    Rule(
        "device mask",
        c.everywhere,
        c.mask_in_composite_form,
        "fail",
        "drop the mask and do not start through gpu_tile_compact.sh: its masks are for COMPOSITE mode",
        RUNNING,
    ),
    Rule(
        "device selector",
        c.xpu_job,
        c.value_is("ONEAPI_DEVICE_SELECTOR", "opencl:gpu;level_zero:gpu"),
        "warn",
        "export ONEAPI_DEVICE_SELECTOR=level_zero:gpu, or devices are counted twice",
        "ALCF user guides, python.md, 2026-08",
    ),
    Rule(
        "hidden devices",
        c.everywhere,
        c.hidden_devices,
        "fail",
        "unset it: an empty list hides every device",
        "CUDA and Level Zero manuals",
    ),
    Rule(
        "proxy",
        c.xpu_job,
        c.no_proxy,
        "warn",
        "export http_proxy and https_proxy (http://proxy.alcf.anl.gov:3128), or WANDB_MODE=offline",
        "ALCF user guides, getting-started-on-aurora.md, 2026-08",
    ),
    Rule(
        "GPUs of the job",
        c.cuda_job,
        c.no_gpus_granted,
        "fail",
        "ask for them: --gpus-per-node=4 beside -C gpu",
        "docs.nersc.gov; trial with Slurm 22.05",
    ),
    Rule(
        "NCCL network",
        c.slingshot_cuda,
        c.nccl_net_missing,
        "warn",
        "load the site's nccl plugin module, which sets NCCL_NET='AWS Libfabric': TCP was 24 times slower per NIC",
        "public README 'Ray tensor transport on Perlmutter', 2026",
    ),
    Rule(
        "NCCL network on one node", c.slingshot_cuda, c.nccl_net_alone, "warn", "unset NCCL_NET on a single node", HPE
    ),
    Rule(
        "host registration",
        c.slingshot_cuda,
        c.value_is("FI_CXI_DISABLE_HOST_REGISTER", "0"),
        "warn",
        "export FI_CXI_DISABLE_HOST_REGISTER=1: allocation deadlocks otherwise",
        HPE,
    ),
    Rule(
        "MPI on GPU buffers",
        c.cuda_job,
        c.value_is("MPICH_GPU_SUPPORT_ENABLED", "1"),
        "warn",
        "export MPICH_GPU_SUPPORT_ENABLED=0 unless MPI moves GPU buffers: it aborts without GTL, can hang beside NCCL",
        "docs.nersc.gov, Cray MPICH; NERSC/nccl-ofi-plugin, 2025-01",
    ),
    Rule(
        "OpenMP binding",
        c.cuda_job,
        c.is_set("OMP_PROC_BIND"),
        "warn",
        "unset OMP_PROC_BIND and OMP_PLACES in GPU jobs",
        "QMCPACK pull request 4699",
    ),
    Rule(
        "file locks",
        c.in_job,
        c.value_is("HDF5_USE_FILE_LOCKING", "", "TRUE"),
        "warn",
        "export HDF5_USE_FILE_LOCKING=FALSE: parallel file systems keep no such locks",
        "NERSC dl tutorials SC23 to SC25",
    ),
)
