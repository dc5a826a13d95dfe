# SPDX-License-Identifier: Apache-2.0
"""How do ranks talk? Engines behind one small interface, chosen by name."""

from __future__ import annotations

import importlib
import importlib.util

from hpc_dl.cluster.rank import RankRecord
from hpc_dl.comm.base import Engine
from hpc_dl.comm.staging import HostStaging
from hpc_dl.errors import HpcDlError, nearest

ENGINES = {
    "horovod": "hpc_dl.comm.horovod:HorovodEngine",
    "torch": "hpc_dl.comm.torch_distributed:TorchEngine",
    "single": "hpc_dl.comm.single:SingleEngine",
}

HOROVOD_REMEDY = "build it with launch/build_horovod.sh, or use engine 'torch' (same Trainer, same numbers)"


def choose(name: str, record: RankRecord, device_name: str, host_staging: bool = False) -> Engine:
    """The engine asked for, not yet started; "auto" picks one and its `why` says why.

    Args:
        host_staging: Copy through host memory what an engine without access to the device exchanges.

    Raises:
        HpcDlError: An explicit wish cannot be met here.
    """
    staged = host_staging and device_name != "cpu"
    served = "cpu" if staged else device_name
    if name == "auto":
        name, why = _pick(record, served)
    else:
        why = "asked for"
        if name == "horovod" and (reason := horovod_missing(served)):
            raise HpcDlError(f"engine 'horovod' on {device_name}", reason, _remedy(served))
    if name not in ENGINES:
        raise HpcDlError(f"engine {name!r}", "no such engine", nearest(name, ENGINES))
    module, _, attribute = ENGINES[name].partition(":")
    engine: Engine = getattr(importlib.import_module(module), attribute)()
    if staged and name != "single":
        engine = HostStaging(engine)
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


def _remedy(device_name: str) -> str:
    slow = "; slow but possible: --exchange.host_staging true"
    return HOROVOD_REMEDY + (slow if device_name != "cpu" and not horovod_missing("cpu") else "")


def _pick(record: RankRecord, device_name: str) -> tuple[str, str]:
    if record.world_size == 1:
        return "single", "one process"
    reason = horovod_missing(device_name)
    if reason and "does not load" in reason:  # on this node perhaps, and not on others: ranks must not part ways
        raise HpcDlError("engine 'auto'", reason, "mend or remove Horovod on all nodes, or use engine 'torch'")
    if reason:
        return "torch", reason
    return "horovod", f"Horovod is installed and serves {device_name}"
