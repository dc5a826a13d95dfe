# SPDX-License-Identifier: Apache-2.0
"""Intel's extension for PyTorch, where it is installed and asked for. The only module that imports it.

Intel ended its development in 2026; native torch serves CPUs and Xe GPUs without it. It is still the faster path for
bf16 on some CPUs, and the only one to Xe GPUs on stacks with torch 2.5 and before.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from hpc_dl.devices.xpu import BINDINGS, IPEX, check_order
from hpc_dl.errors import HpcDlError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

DTYPES = {"fp32": None, "bf16": "bfloat16"}
"""What weights of convolutions and matrix products are kept in, per precision; None for as they are."""
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


def optimize(model: nn.Module, optimizer: Optimizer, precision: str) -> tuple[nn.Module, Optimizer]:
    """Let IPEX pack weights into the layout of its kernels, and in bf16 keep them as bf16 with fp32 masters.

    Call it with the weights all ranks start from and before the model is distributed: IPEX replaces parameters'
    storage, and the optimizer. State dicts of both stay in plain layout and fp32, so checkpoints go either way.

    Args:
        model: On the device; changed in place.
        optimizer: Of any kind.
        precision: fp32 or bf16.

    Raises:
        HpcDlError: IPEX does not train in this precision.
    """
    if precision not in DTYPES:
        raise HpcDlError("device.ipex", f"IPEX does not train in {precision}", "use precision bf16 or fp32")
    import torch

    extension = load(next(model.parameters()).device.type)
    logging.getLogger("IPEX").setLevel(logging.ERROR)  # it announces, on every rank, what its next release would drop
    name = DTYPES[precision]
    model.train()
    model, optimizer = extension.optimize(
        model, dtype=None if name is None else getattr(torch, name), optimizer=optimizer, inplace=True
    )
    # IPEX 2.8's own loading leaves packed layers that compute NaN.
    model.load_state_dict = functools.partial(_load, model, optimizer)  # type: ignore[method-assign]
    return model, optimizer


def _load(model: nn.Module, optimizer: Any, state: Mapping[str, Tensor]) -> None:
    """Overwrite parameters and buffers, in whatever layout they are kept, with a state in plain layout and fp32."""
    import torch

    kept = {id(wrapper.parameter): wrapper for wrapper in optimizer.params_attr.values()}
    own = dict([*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)])
    if unknown := set(state) ^ set(model.state_dict()):
        raise HpcDlError("loading a state", f"it and the model differ in {', '.join(sorted(unknown))}", "use its model")
    with torch.no_grad():
        for name, value in state.items():
            _overwrite(own[name], kept.get(id(own[name])), value, torch)


def _overwrite(tensor: Tensor, wrapper: Any, value: Tensor, torch: Any) -> None:
    """Put a value into a parameter: its two bf16 halves, or its bf16 copy and fp32 master, packed as they are."""
    if wrapper is None:
        tensor.copy_(value)
        return
    pack = (lambda plain: plain) if wrapper.op_ctx is None else wrapper.op_ctx.pack
    if wrapper.weight_channels_last:
        value = value.contiguous(memory_format=torch.channels_last if value.dim() == 4 else torch.channels_last_3d)
    if wrapper.split:
        top, trail = torch.ops.torch_ipex.split_float_bfloat16(value)
        tensor.copy_(pack(top))
        wrapper.parameter_trail.copy_(pack(trail))
        return
    if wrapper.master_parameter is not None:
        wrapper.master_parameter.copy_(pack(value))
    tensor.copy_(pack(value.to(tensor.dtype)))
