# SPDX-License-Identifier: Apache-2.0
"""What the rules on environment variables ask: does a rule concern this place, and what is wrong there."""

from __future__ import annotations

import re
from collections.abc import Callable

from hpc_dl.devices.threads import parse_cpu_list
from hpc_dl.doctor.scene import Scene

Condition = Callable[[Scene], bool]
Wrong = Callable[[Scene], str]
"""What is wrong, in words; empty where nothing is."""


def everywhere(scene: Scene) -> bool:
    return True


def in_job(scene: Scene) -> bool:
    return scene.in_job


def xpu_job(scene: Scene) -> bool:
    return scene.machine.device == "xpu" and (scene.in_job or scene.under_launcher)


def xpu_nodes(scene: Scene) -> bool:
    return xpu_job(scene) and scene.nodes > 1


def cuda_job(scene: Scene) -> bool:
    return scene.machine.device == "cuda" and (scene.in_job or scene.under_launcher)


def slingshot_cuda(scene: Scene) -> bool:
    return cuda_job(scene) and "Slingshot" in scene.machine.node.network


def value_is(name: str, *bad: str) -> Wrong:
    """The variable has one of these values; "" stands for unset."""
    return lambda scene: f"{name}={scene.value(name) or '(unset)'}" if scene.value(name) in bad else ""


def value_is_not(name: str, good: str) -> Wrong:
    return lambda scene: "" if scene.value(name) == good else f"{name}={scene.value(name) or '(unset)'}"


def is_set(name: str) -> Wrong:
    return lambda scene: f"{name}={scene.environ[name]}" if name in scene.environ else ""


def mask_in_composite_form(scene: Scene) -> str:
    mask, mode = scene.value("ZE_AFFINITY_MASK"), scene.value("ZE_FLAT_DEVICE_HIERARCHY")
    return f"ZE_AFFINITY_MASK={mask} with ZE_FLAT_DEVICE_HIERARCHY={mode}" if "." in mask and mode == "FLAT" else ""


def hidden_devices(scene: Scene) -> str:
    names = ("CUDA_VISIBLE_DEVICES", "ZE_AFFINITY_MASK")
    return next((f"{name} is set and empty" for name in names if scene.environ.get(name) == ""), "")


def reserved_cores(scene: Scene) -> str:
    taken = sorted(set(_cores(scene.value("CCL_WORKER_AFFINITY"))) & set(scene.machine.ranks.reserved_cores))
    return f"CCL_WORKER_AFFINITY uses {', '.join(map(str, taken))}, kept by the system" if taken else ""


def workers_on_rank_cores(scene: Scene) -> str:
    bind, text = scene.machine.cpu_bind(), scene.value("HPC_DL_CPU_BIND")
    entries = text.split(":") if text else bind.cores if bind else ()
    taken = {core for entry in entries for core in _cores(entry)}
    shared = sorted(taken.intersection(_cores(scene.value("CCL_WORKER_AFFINITY"))))
    return f"CCL_WORKER_AFFINITY and the ranks share cores {', '.join(map(str, shared))}" if shared else ""


def no_mpi_for_kvs(scene: Scene) -> str:
    wants = scene.value("CCL_KVS_MODE") == "mpi" and "mpi4py" not in scene.packages
    return "CCL_KVS_MODE=mpi, but there is no mpi4py to start MPI" if wants else ""


def no_proxy(scene: Scene) -> str:
    online = "wandb" in scene.packages and scene.value("WANDB_MODE") not in ("offline", "disabled")
    proxied = scene.value("https_proxy") or scene.value("HTTPS_PROXY")
    return "wandb is installed and online, and https_proxy is not set" if online and not proxied else ""


def nccl_net_missing(scene: Scene) -> str:
    missing = scene.nodes > 1 and not scene.value("NCCL_NET")
    return "NCCL_NET is not set on several nodes: NCCL may fall back to TCP and say nothing" if missing else ""


def nccl_net_alone(scene: Scene) -> str:
    return f"NCCL_NET={scene.value('NCCL_NET')} on one node" if scene.nodes == 1 and scene.value("NCCL_NET") else ""


def no_gpus_granted(scene: Scene) -> str:
    names = ("SLURM_GPUS_ON_NODE", "SLURM_JOB_GPUS", "SLURM_STEP_GPUS", "SLURM_GPUS_PER_NODE")
    granted = any(scene.value(name) for name in names)
    return "Slurm granted no GPUs" if "SLURM_JOB_ID" in scene.environ and not granted else ""


def _cores(text: str) -> list[int]:
    """The cores of "4-7,20"; none of a text of another form (oneCCL also takes "auto")."""
    return parse_cpu_list(text) if re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", text) else []
