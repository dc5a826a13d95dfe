# SPDX-License-Identifier: Apache-2.0
"""What do I compute on? Devices behind one interface, chosen by name.

Importing this package imports no torch and touches no accelerator; `choose` does both.
"""

from __future__ import annotations

import importlib
from typing import Any

from hpc_dl.cluster.rank import RankRecord
from hpc_dl.devices.base import Device, DeviceMap, Environ, Unavailable
from hpc_dl.errors import HpcDlError, nearest

DEVICES = {"cpu": "hpc_dl.devices.cpu", "cuda": "hpc_dl.devices.cuda", "xpu": "hpc_dl.devices.xpu"}
"""The registry: a module has `unavailable(torch, environ)` and `build(torch, local_rank, device_map, environ, why)`."""

AUTO_ORDER = ("xpu", "cuda", "cpu")
"""A torch build has one kind of accelerator, so the order only says that the CPU comes last."""


def choose(
    name: str,
    rank_record: RankRecord,
    device_map: DeviceMap,
    environ: Environ,
    ipex: bool = False,
    torch: Any | None = None,
) -> Device:
    """This rank's device.

    Args:
        name: cpu, cuda, xpu or auto.
        rank_record: Its local rank picks the index.
        device_map: The machine's; identity where the machine is not known.
        environ: The process's environment, for the masks that hide devices.
        ipex: Import Intel's extension first: on stacks of its time it is what makes XPUs visible to torch.
        torch: A stand-in for the torch module, for tests.

    Raises:
        HpcDlError: The device (or IPEX) asked for does not exist here, or there are too few devices.
    """
    if name != "auto" and name not in DEVICES:
        raise HpcDlError(f"device {name!r}", "no such device", nearest(name, ("auto", *DEVICES)))
    torch = importlib.import_module("torch") if torch is None else torch
    if ipex:
        importlib.import_module("hpc_dl.devices.ipex").load(name)
    passed_over: list[str] = []
    for candidate in AUTO_ORDER if name == "auto" else (name,):
        module = importlib.import_module(DEVICES[candidate])
        reason: Unavailable | None = module.unavailable(torch, environ)
        if reason is None:
            why = "asked for" if name != "auto" else "; ".join(["first usable", *passed_over])
            device: Device = module.build(torch, rank_record.local_rank, device_map, environ, why)
            return device
        if name != "auto":
            raise HpcDlError(f"device {name!r}", reason.found, reason.remedy)
        passed_over.append(f"no {candidate} ({reason.found})")
    raise AssertionError("the CPU is always there")
