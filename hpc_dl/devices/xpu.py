# SPDX-License-Identifier: Apache-2.0
"""Intel GPUs through native torch.xpu; a device is a tile in FLAT mode, a whole GPU in COMPOSITE mode.

The order of imports and initialisation, all of it, is the table `ORDER`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from typing import Any, NamedTuple

from hpc_dl.devices.accelerator import Accelerator, pick_index, read_mask
from hpc_dl.devices.base import Device, DeviceMap, Environ, Unavailable, Variable
from hpc_dl.errors import HpcDlError

HIERARCHY = "ZE_FLAT_DEVICE_HIERARCHY"
IPEX = "intel_extension_for_pytorch"
BINDINGS = "oneccl_bindings_for_pytorch"
INTEL = (0x8086).to_bytes(2, "little")
"""PCI vendor, as it stands in a UUID."""


class Step(NamedTuple):
    """Something that happens while a rank starts."""

    what: str
    modules: tuple[str, ...]
    """Modules whose import is this step; empty where it is a call."""
    done_by: str
    reason: str
    """Why not later, with its source."""


ORDER = (
    Step(
        "variables: ZE_*, CCL_*",
        (),
        "the job script",
        "Level Zero and oneCCL read them once (ALCF user guides, running-jobs-aurora.md and oneCCL.md, 2026-08)",
    ),
    Step(
        "MPI",
        ("mpi4py.MPI",),
        "comm/mpi.py",
        "CCL_KVS_MODE=mpi needs MPI up before the process group (ALCF notes on frameworks/2026.1.0, 2026-09)",
    ),
    Step("torch", ("torch",), "session.py", "IPEX registers itself with torch (IPEX 2.5 documentation)"),
    Step(
        "IPEX, only where asked for",
        (IPEX,),
        "devices/ipex.py",
        "after horovod.torch or the oneCCL bindings it ends in 'invalid device pointer' "
        "(IPEX 2.5 documentation, troubleshooting)",
    ),
    Step(
        "Horovod or the oneCCL bindings, only on stacks of IPEX's time",
        ("horovod.torch", BINDINGS),
        "comm/horovod.py, devices/ipex.py",
        "they use what torch and IPEX have registered",
    ),
    Step(
        "torch.xpu.set_device",
        (),
        "Device.make_current",
        "set after the process group, the first all-gather hangs (ezpz 0.26, docs/troubleshooting.md)",
    ),
    Step("the process group or hvd.init", (), "Engine.start", "it binds to the current device"),
)
"""What comes before what on an Intel GPU, and who does it."""


def check_order(imported: Iterable[str]) -> None:
    """Refuse IPEX behind a module that must follow it in `ORDER`. MPI's place needs no check: the engine sees to it.

    Args:
        imported: Module names in the order of their import, as in `sys.modules`.

    Raises:
        HpcDlError: Two of them are the wrong way round.
    """
    seen = list(imported)
    before = seen[: seen.index(IPEX)] if IPEX in seen else []
    place = next(place for place, step in enumerate(ORDER) if IPEX in step.modules)
    early = [module for step in ORDER[place + 1 :] for module in step.modules if module in before]
    if early:
        raise HpcDlError(
            "IPEX on an Intel GPU",
            f"{early[0]} was imported before it: {ORDER[place].reason}",
            f"import {IPEX} first, or leave both imports to hpc_dl",
        )


def unavailable(torch: Any, environ: Environ) -> Unavailable | None:
    """Why there is no XPU here, or None."""
    if hasattr(torch, "xpu") and torch.xpu.is_available():
        return None
    if not hasattr(torch, "xpu") or getattr(torch.version, "xpu", None) is None:
        return Unavailable(
            f"torch {torch.__version__} is built without XPU",
            "on Aurora run `module load frameworks` and do not let pip replace its torch; elsewhere install an XPU "
            "build of torch; on a stack of IPEX's time (torch 2.5 and before) add --device.ipex true; "
            "or use --device.name cpu",
        )
    mask = environ.get("ZE_AFFINITY_MASK", "")
    if "." in mask and environ.get(HIERARCHY, "FLAT") != "COMPOSITE":
        return Unavailable(
            f"ZE_AFFINITY_MASK={mask} names tiles in the form of COMPOSITE mode, which FLAT mode ignores",
            "drop the mask (hpc_dl picks the tile itself) and do not start through gpu_tile_compact.sh",
        )
    return Unavailable(
        f"torch {torch.__version__} sees no Intel GPU" + (f" (ZE_AFFINITY_MASK={mask})" if mask else ""),
        "run on a compute node, check ZE_AFFINITY_MASK and ONEAPI_DEVICE_SELECTOR (level_zero:gpu), "
        "or use --device.name cpu",
    )


def build(torch: Any, local_rank: int, device_map: DeviceMap, environ: Environ, why: str) -> Device:
    """This rank's tile (or GPU)."""
    # Level Zero takes the mask as a filter and counts on in its own order (intel/compute-runtime, 2026,
    # shared/source/execution_environment/execution_environment.cpp, parseAffinityMask).
    mask = read_mask(Xpu.mask_variables, environ, keeps_order=False)
    try:
        index, rule = pick_index(local_rank, torch.xpu.device_count(), device_map, mask)
    except HpcDlError as error:
        if environ.get(HIERARCHY, "FLAT") == "FLAT":
            raise
        remedy = f"set {HIERARCHY}=FLAT before the start, so that each tile is a device; or {error.remedy}"
        raise HpcDlError(error.asked, error.found, remedy) from None
    return Xpu(torch, index, f"{why}; {rule}")


class Xpu(Accelerator):
    """One tile or GPU."""

    name = "xpu"
    mask_variables = ("ZE_AFFINITY_MASK",)
    out_of_memory_texts = (
        "XPU out of memory",
        "UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY",
        "UR_RESULT_ERROR_OUT_OF_RESOURCES",
        "PI_ERROR_OUT_OF_RESOURCES",
    )
    variables = (
        Variable(
            HIERARCHY,
            "FLAT",
            "12 devices per Aurora node, one per tile (ALCF user guides, data-science/frameworks/pytorch.md, 2026-08)",
        ),
        Variable(
            "ZES_ENABLE_SYSMAN", "1", "free-memory queries need it (ALCF user guides, aurora/known-issues.md, 2026-08)"
        ),
    )

    def __init__(self, torch: Any, index: int, why: str) -> None:
        super().__init__(torch, index, why)
        native = getattr(torch.distributed, "is_xccl_available", lambda: False)()
        bindings = importlib.util.find_spec(BINDINGS) is not None
        # torch brings xccl along since 2.7; before, the backend is that of the oneCCL bindings.
        self.default_backend = "ccl" if bindings and not native else "xccl"

    def needs_mpi(self, environ: Environ) -> bool:
        return environ.get("CCL_KVS_MODE") == "mpi"

    def identity(self) -> str | None:
        """The UUID: vendor, PCI address, and in its last byte the tile; None on a torch that does not tell it."""
        uuid = self._uuid()
        return None if uuid is None else f"XPU-{uuid.hex()}"

    def pci_address(self) -> str | None:
        """Read from the UUID: vendor, device, revision and domain in two bytes each, then bus, device, function
        (intel/compute-runtime, Device::generateUuidFromPciBusInfo); None for UUIDs of another make."""
        uuid = self._uuid()
        if uuid is None or len(uuid) != 16 or uuid[:2] != INTEL:
            return None
        return f"{int.from_bytes(uuid[6:8], 'little'):04x}:{uuid[8]:02x}:{uuid[9]:02x}.{uuid[10]:x}"

    def _uuid(self) -> bytes | None:
        uuid = getattr(self._torch.xpu.get_device_properties(self.index), "uuid", None)
        if isinstance(uuid, str):
            return bytes.fromhex(uuid.replace("-", ""))
        return None if uuid is None else bytes(uuid)
