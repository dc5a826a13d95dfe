# SPDX-License-Identifier: Apache-2.0
"""Intel GPUs through native torch.xpu; a device is a tile in FLAT mode, a whole GPU in COMPOSITE mode."""

from __future__ import annotations

from typing import Any

from hpc_dl.devices.accelerator import Accelerator, mask_of, pick_index
from hpc_dl.devices.base import Device, DeviceMap, Environ, Unavailable, Variable
from hpc_dl.errors import HpcDlError


def unavailable(torch: Any, environ: Environ) -> Unavailable | None:
    """Why there is no XPU here, or None."""
    if not hasattr(torch, "xpu") or getattr(torch.version, "xpu", "no version") is None:
        return Unavailable(
            f"torch {torch.__version__} is built without XPU",
            "on Aurora run `module load frameworks` and do not let pip replace its torch; elsewhere install an XPU "
            "build of torch; or use --device.name cpu",
        )
    if not torch.xpu.is_available():
        name, mask = mask_of(Xpu.mask_variables, environ)
        return Unavailable(
            f"torch {torch.__version__} sees no Intel GPU" + (f" ({name}={mask})" if name in environ else ""),
            "run on a compute node, check ZE_AFFINITY_MASK and ONEAPI_DEVICE_SELECTOR (level_zero:gpu), "
            "or use --device.name cpu",
        )
    return None


def build(torch: Any, local_rank: int, device_map: DeviceMap, environ: Environ, why: str) -> Device:
    """This rank's tile (or GPU)."""
    name, mask = mask_of(Xpu.mask_variables, environ)
    visible = torch.xpu.device_count()
    try:
        index, rule = pick_index(local_rank, visible, device_map, mask, name)
    except HpcDlError as error:
        if environ.get("ZE_FLAT_DEVICE_HIERARCHY", "") == "FLAT":
            raise
        remedy = f"set ZE_FLAT_DEVICE_HIERARCHY=FLAT before the start, so that each tile is a device; or {error.remedy}"
        raise HpcDlError(error.asked, error.found, remedy) from None
    return Xpu(torch, index, f"{why}; {rule}")


class Xpu(Accelerator):
    """One tile or GPU."""

    name = "xpu"
    default_backend = "xccl"
    mask_variables = ("ZE_AFFINITY_MASK",)
    out_of_memory_texts = (
        "XPU out of memory",
        "UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY",
        "UR_RESULT_ERROR_OUT_OF_RESOURCES",
        "PI_ERROR_OUT_OF_RESOURCES",
    )
    variables = (
        Variable(
            "ZE_FLAT_DEVICE_HIERARCHY",
            "FLAT",
            "12 devices per Aurora node, one per tile (ALCF user guides, data-science/frameworks/pytorch.md, 2026-08)",
        ),
        Variable(
            "ZES_ENABLE_SYSMAN", "1", "free-memory queries need it (ALCF user guides, aurora/known-issues.md, 2026-08)"
        ),
    )

    def identity(self) -> str | None:
        """The UUID, which differs between the tiles of a GPU; None on a torch that does not tell it (before 2.8)."""
        uuid = getattr(self._torch.xpu.get_device_properties(self.index), "uuid", None)
        return None if uuid is None else f"XPU-{uuid}"
