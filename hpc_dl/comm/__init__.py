# SPDX-License-Identifier: Apache-2.0
"""How do ranks talk? Engines behind one small interface, chosen by name."""

from __future__ import annotations

import importlib
import importlib.util

from hpc_dl.cluster.rank import RankRecord
from hpc_dl.comm.base import Engine
from hpc_dl.errors import HpcDlError, nearest

ENGINES = {
    "horovod": "hpc_dl.comm.horovod:HorovodEngine",
    "torch": "hpc_dl.comm.torch_distributed:TorchEngine",
    "single": "hpc_dl.comm.single:SingleEngine",
}

HOROVOD_REMEDY = "build it with launch/build_horovod.sh, or use engine 'torch' (same Trainer, same numbers)"


def choose(name: str, record: RankRecord, device_name: str, host_staging: bool = False) -> Engine:
    """The engine asked for, not yet started; "auto" picks one and its `why` says why.

    Raises:
        HpcDlError: An explicit wish cannot be met here.
    """
    if name == "auto":
        name, why = _pick(record, device_name)
    else:
        why = "asked for"
        if name == "horovod" and (reason := horovod_missing(device_name)) and not host_staging:
            raise HpcDlError(f"engine 'horovod' on {device_name}", reason, HOROVOD_REMEDY)
    if name not in ENGINES:
        raise HpcDlError(f"engine {name!r}", "no such engine", nearest(name, ENGINES))
    module, _, attribute = ENGINES[name].partition(":")
    engine: Engine = getattr(importlib.import_module(module), attribute)()
    engine.why = why
    return engine


def horovod_missing(device_name: str) -> str | None:
    """Why Horovod cannot serve this device here, or None where it can."""
    if importlib.util.find_spec("horovod") is None:
        return "Horovod is not installed"
    try:
        from hpc_dl.comm.horovod import reason_against
    except ImportError as error:
        return f"Horovod does not load ({error})"
    reason = reason_against(device_name)
    return reason and f"Horovod is installed, but {reason}"


def _pick(record: RankRecord, device_name: str) -> tuple[str, str]:
    if record.world_size == 1:
        return "single", "one process"
    if reason := horovod_missing(device_name):
        return "torch", reason
    return "horovod", f"Horovod is installed and serves {device_name}"
