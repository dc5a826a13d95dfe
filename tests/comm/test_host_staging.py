# SPDX-License-Identifier: Apache-2.0
"""Gradients of a device that the engine cannot reach, staged through host memory; the device is a fake."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from hpc_dl import comm
from hpc_dl.cluster.rank import RankRecord
from hpc_dl.comm.base import Engine, Op, Work
from hpc_dl.comm.exchange import GradientExchange
from hpc_dl.comm.staging import HostStaging
from hpc_dl.devices import choose
from hpc_dl.devices.base import Device
from hpc_dl.errors import HpcDlError

RANK = RankRecord(0, 2, 0, 2, 0, "test")


XPU = torch.device("xpu:0")


class DeviceTensor(Tensor):
    """A tensor that says it lives on an XPU: only a copy made by `to("cpu")` is one of the host's."""

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return XPU

    def to(self, device: str) -> Tensor:  # type: ignore[override]
        assert device == "cpu"
        return self.as_subclass(Tensor).clone()


def on_device(tensor: Tensor) -> DeviceTensor:
    return tensor.as_subclass(DeviceTensor)


class XpuFactories(TorchFunctionMode):
    """torch.zeros and the like on the device that does not exist."""

    def __torch_function__(self, function: Any, types: Any, arguments: Any = (), keywords: Any = None) -> Any:
        keywords = dict(keywords or {})
        if keywords.get("device") == XPU:
            return on_device(function(*arguments, **{**keywords, "device": "cpu"}))
        return function(*arguments, **keywords)


class HostOnlyWork:
    def __init__(self, finish: Callable[[], object]) -> None:
        self._finish = finish

    def wait(self) -> None:
        self._finish()


class HostOnlyEngine(Engine):
    """Two ranks with the same values; refuses tensors of a device as Horovod does. The sum is there after `wait`."""

    name = "horovod"
    backend = "mpi"

    def start(self, record: RankRecord, device: Device, environ: Mapping[str, str], timeout_seconds: float) -> None:
        assert device.name == "cpu"
        self.rank, self.world_size = 0, 2

    def stop(self) -> None: ...

    def reduce_async(self, tensor: Tensor, op: Op, name: str) -> Work:
        if tensor.device.type != "cpu":
            raise ValueError(f"Tensor type torch.{tensor.device.type}.FloatTensor is not supported.")
        factor = {"sum": 2.0, "max": 1.0, "min": 1.0}[op]
        return HostOnlyWork(lambda: tensor.mul_(factor))

    def broadcast_bytes(self, tensor: Tensor, root: int, name: str) -> None:
        if tensor.device.type != "cpu":
            raise ValueError("Tensor type is not supported.")
        tensor.fill_(7)

    def gather(self, value: Any) -> list[Any]:
        return [value, value]

    def broadcast(self, value: Any, root: int = 0) -> Any:
        return value


@pytest.fixture
def staging() -> HostStaging:
    engine = HostStaging(HostOnlyEngine())
    engine.start(RANK, choose("cpu", RANK, int, {}), {}, 10.0)
    return engine


def test_the_bare_engine_refuses_the_device() -> None:
    with pytest.raises(ValueError, match=r"torch\.xpu\.FloatTensor is not supported"):
        HostOnlyEngine().reduce_async(on_device(torch.ones(3)), "sum", "x")


def test_the_sum_comes_back_to_the_device_when_waited_for(staging: HostStaging) -> None:
    tensor = on_device(torch.arange(3.0))
    work = staging.reduce_async(tensor, "sum", "x")
    assert tensor.tolist() == [0, 1, 2]
    work.wait()
    assert tensor.tolist() == [0, 2, 4]


def test_tensors_of_the_host_pass_without_a_copy(staging: HostStaging) -> None:
    tensor = torch.arange(3.0)
    staging.reduce_async(tensor, "sum", "x").wait()
    assert tensor.tolist() == [0, 2, 4]


def test_broadcast_comes_back_to_the_device(staging: HostStaging) -> None:
    tensor = on_device(torch.zeros(3, dtype=torch.uint8))
    staging.broadcast_bytes(tensor, 0, "x")
    assert tensor.tolist() == [7, 7, 7]


def test_it_says_that_it_is_slow(staging: HostStaging) -> None:
    assert staging.name == "horovod"
    assert staging.backend == "mpi, staged through host memory (slow)"


def test_gradients_of_a_model_on_the_device_are_averaged(staging: HostStaging) -> None:
    parameters = [nn.Parameter(on_device(torch.zeros(4))), nn.Parameter(on_device(torch.zeros(2, 3)))]
    with XpuFactories():
        exchange = GradientExchange(staging, parameters, bucket_bytes=8)
    for number, parameter in enumerate(parameters, start=1):
        parameter.grad = on_device(torch.full(parameter.shape, float(number)))
    exchange.finish()
    for number, parameter in enumerate(parameters, start=1):
        gradient = parameter.grad
        assert isinstance(gradient, DeviceTensor)
        assert gradient.tolist() == torch.full(parameter.shape, float(number)).tolist()


# Which engine is chosen for a device that Horovod's build does not serve.


def test_horovod_on_xpu_is_refused_and_the_slow_way_named() -> None:
    with pytest.raises(HpcDlError, match="engine 'horovod' on xpu") as caught:
        comm.choose("horovod", RANK, "xpu")
    assert "use engine 'torch'" in caught.value.remedy
    assert "--exchange.host_staging true" in caught.value.remedy


def test_horovod_on_xpu_is_staged_where_asked_for() -> None:
    assert isinstance(comm.choose("horovod", RANK, "xpu", host_staging=True), HostStaging)


def test_auto_takes_the_engine_that_reaches_the_device() -> None:
    engine = comm.choose("auto", RANK, "xpu")
    assert engine.name == "torch"
    assert "no operations for xpu" in engine.why


def test_nothing_is_staged_on_the_cpu() -> None:
    assert not isinstance(comm.choose("torch", RANK, "cpu", host_staging=True), HostStaging)
