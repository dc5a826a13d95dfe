# SPDX-License-Identifier: Apache-2.0
"""Intel's extension for PyTorch, where it is installed and asked for. The only module that imports it.

Intel ended its development in 2026; native torch serves CPUs and Xe GPUs without it. It is still the faster path for
bf16 on some CPUs, and the only one to Xe GPUs on stacks with torch 2.5 and before.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable
from typing import Any

from hpc_dl.devices.xpu import BINDINGS, IPEX, check_order
from hpc_dl.errors import HpcDlError

REMEDY = (
    "leave --device.ipex out (native torch needs no IPEX); or install intel-extension-for-pytorch 2.8.0 beside torch "
    "2.8.0 in an environment of its own (`make test-ipex` shows how)"
)


def load(
    device_name: str,
    importer: Callable[[str], Any] = importlib.import_module,
    imported: Iterable[str] | None = None,
) -> Any:
    """The IPEX module, imported at its place in `xpu.ORDER`.

    Args:
        device_name: cpu, xpu or auto; IPEX serves nothing else.
        importer: Imports a module by name; a stand-in in tests.
        imported: Modules imported so far, in order; `sys.modules` by default.

    Raises:
        HpcDlError: IPEX does not serve the device, is not installed, does not fit this torch, or comes too late.
    """
    if device_name not in ("cpu", "xpu", "auto"):
        raise HpcDlError("device.ipex", f"IPEX has nothing for {device_name}", "leave --device.ipex out")
    if device_name != "cpu":
        check_order([*(sys.modules if imported is None else imported), IPEX])
    try:
        module = importer(IPEX)
    except ModuleNotFoundError as error:
        raise HpcDlError("device.ipex", "IPEX is not installed", REMEDY) from error
    except (ImportError, OSError, SystemExit) as error:  # with another torch than its own, it prints a line and exits
        raise HpcDlError("device.ipex", f"IPEX does not load beside this torch ({error})", REMEDY) from error
    if device_name != "cpu" and importlib.util.find_spec(BINDINGS) is not None:
        importer(BINDINGS)
    return module
