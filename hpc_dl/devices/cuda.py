# SPDX-License-Identifier: Apache-2.0
"""NVIDIA GPUs through torch.cuda (and AMD's, which torch serves by the same name)."""

from __future__ import annotations

from typing import Any

from hpc_dl.devices.accelerator import Accelerator, pick_index, read_mask
from hpc_dl.devices.base import Device, DeviceMap, Environ, Unavailable, Variable


def unavailable(torch: Any, environ: Environ) -> Unavailable | None:
    """Why there is no CUDA device here, or None."""
    if torch.version.cuda is None and getattr(torch.version, "hip", None) is None:
        return Unavailable(
            f"torch {torch.__version__} is built without CUDA",
            "install a CUDA build of torch (pytorch.org/get-started), or use --device.name cpu",
        )
    if not torch.cuda.is_available():
        hidden = [f"{name}={environ[name]}" for name in Cuda.mask_variables if name in environ]
        return Unavailable(
            f"torch {torch.__version__} sees no GPU" + (f" ({', '.join(hidden)})" if hidden else ""),
            "ask the scheduler for GPUs (Slurm: --gpus-per-node), see that `nvidia-smi` lists them, "
            "or use --device.name cpu",
        )
    return None


def build(torch: Any, local_rank: int, device_map: DeviceMap, environ: Environ, why: str) -> Device:
    """This rank's GPU."""
    mask = read_mask(Cuda.mask_variables, environ, keeps_order=True)
    index, rule = pick_index(local_rank, torch.cuda.device_count(), device_map, mask)
    return Cuda(torch, index, f"{why}; {rule}")


class Cuda(Accelerator):
    """One GPU."""

    name = "cuda"
    default_backend = "nccl"
    mask_variables = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")
    out_of_memory_texts = (
        "CUDA out of memory",
        "CUDA error: out of memory",
        "CUBLAS_STATUS_ALLOC_FAILED",
        "CUDNN_STATUS_ALLOC_FAILED",
    )
    variables = (
        Variable(
            "CUDA_DEVICE_ORDER",
            "PCI_BUS_ID",
            "the machine's map counts GPUs by PCI address; the default order is fastest first "
            "(CUDA C++ programming guide, environment variables)",
        ),
    )

    def identity(self) -> str | None:
        """The GPU's UUID, or its PCI address on a torch that does not tell the UUID (before 2.4)."""
        uuid = getattr(self._torch.cuda.get_device_properties(self.index), "uuid", None)
        return self.pci_address() if uuid is None else f"GPU-{uuid}"

    def pci_address(self) -> str | None:
        properties = self._torch.cuda.get_device_properties(self.index)
        domain, bus, device = (getattr(properties, f"pci_{part}_id", None) for part in ("domain", "bus", "device"))
        if domain is None or bus is None or device is None:
            return None
        return f"{domain:04x}:{bus:02x}:{device:02x}.0"
