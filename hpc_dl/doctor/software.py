# SPDX-License-Identifier: Apache-2.0
"""Checks of Python and its packages; none of them is imported."""

from __future__ import annotations

import re

from hpc_dl.doctor.finding import Finding, Verdict
from hpc_dl.doctor.scene import Scene

BUILD_OF_DEVICE = {"cuda": r"\+cu|^[\d.]+$", "xpu": r"\+xpu|\+git|a0", "cpu": ""}
"""What a torch version looks like that serves a device. A plain number is the registry's, which is built for CUDA."""


def check_python(scene: Scene) -> Finding | None:
    """The system's Python inside a job: the modules are missing (a shebang without -l loads nothing and says nothing;
    ezpz src/ezpz/bin/utils.sh, 2026-08)."""
    name, where = "python", f"{scene.python}"
    if scene.in_job and scene.machine.stacks and scene.python.parent in map(type(scene.python), ("/usr/bin", "/bin")):
        modules = " ".join(scene.machine.stack().modules) or "an environment of your own"
        remedy = f"`module load {modules}` in the job script, whose first line must be #!/bin/bash -l"
        return Finding(name, "fail", f"{where} is the system's: no module is loaded", remedy)
    return Finding(name, "ok", where)


def check_torch(scene: Scene) -> Finding | None:
    """torch is there, in a build for the machine's device (ALCF user guides, python.md: pip replaces the site's)."""
    version, kind = scene.packages.get("torch"), scene.machine.device
    if version is None:
        verdict: Verdict = "fail" if scene.in_job or scene.under_launcher else "warn"
        where = "" if verdict == "fail" else "; right for a login node, where jobs, reports and predictions need none"
        remedy = "load the machine's module (`hpc-dl machines`) or install hpc_dl[train]"
        return Finding("torch", verdict, f"{scene.python} has no torch{where}", remedy)
    wanted = kind if scene.device == "auto" else scene.device
    if re.search(BUILD_OF_DEVICE[wanted], version):
        return Finding("torch", "ok", version)
    remedy = {
        "xpu": "use the site's torch (`module load frameworks`; a virtual environment with --system-site-packages) "
        "and keep pip from replacing it by a constraints file",
        "cuda": "install the CUDA build of torch, or load the machine's pytorch module",
    }[wanted]
    verdict = "fail" if scene.in_job or scene.device != "auto" else "warn"
    return Finding("torch", verdict, f"torch {version} is no build for {wanted}", remedy)


def check_horovod(scene: Scene) -> Finding | None:
    """Horovod where it is asked for; on Aurora there is none for PyTorch (ALCF user guides, pytorch.md, 2026-03)."""
    version = scene.packages.get("horovod")
    if version is not None:
        return Finding("horovod", "ok", version)
    if scene.engine == "horovod":
        remedy = "build it with launch/build_horovod.sh, or use --exchange.engine torch: same trainer, same numbers"
        if scene.machine.device == "xpu":
            remedy = "use --exchange.engine torch: no current stack for Intel GPUs carries Horovod for PyTorch"
        return Finding("horovod", "fail", "engine horovod is asked for and Horovod is not installed", remedy)
    return Finding("horovod", "ok", "not installed; the engine will be torch.distributed")


def check_oneccl_bindings(scene: Scene) -> Finding | None:
    """oneccl_bindings_for_pytorch was removed from Aurora's stack in 2025-09 (ALCF user guides, system-updates.md)."""
    if scene.machine.device != "xpu" or "oneccl-bind-pt" not in scene.packages:
        return None
    found = f"oneccl_bindings_for_pytorch {scene.packages['oneccl-bind-pt']} is installed; its backend ccl is gone"
    return Finding("oneCCL bindings", "warn", found, "uninstall it: torch brings the backend xccl along")


def check_ipex(scene: Scene) -> Finding | None:
    """IPEX was archived on 2026-03-30 with known security problems (intel/intel-extension-for-pytorch, README.md)."""
    if (version := scene.packages.get("intel-extension-for-pytorch")) is None:
        return None
    found = f"intel_extension_for_pytorch {version} is installed; Intel has archived it"
    return Finding("IPEX", "warn", found, "leave --device.ipex off and drop the package: torch.xpu needs it no more")


def check_mpi4py(scene: Scene) -> Finding | None:
    """PALS exports no world size and no address: MPI tells both (meta-pytorch/torchcomms, Utils.cpp)."""
    if version := scene.packages.get("mpi4py"):
        return Finding("mpi4py", "ok", version)
    if scene.machine.launcher != "pals":
        return None
    found = "mpi4py is not installed; under PALS it tells ranks their number and starts MPI for CCL_KVS_MODE=mpi"
    verdict: Verdict = "fail" if scene.in_job else "warn"
    return Finding("mpi4py", verdict, found, "load the site's module, or install hpc_dl[mpi]")


CHECKS = (check_python, check_torch, check_horovod, check_oneccl_bindings, check_ipex, check_mpi4py)
