# SPDX-License-Identifier: Apache-2.0
"""What every device does, real or over a fake torch; accelerators of this machine join by themselves."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from fake_torch import FakeSpace, make

from hpc_dl.cluster.rank import RankRecord
from hpc_dl.devices import choose
from hpc_dl.devices.base import Device
from hpc_dl.errors import HpcDlError

LOCAL_RANK = 1
RANK = RankRecord(5, 8, LOCAL_RANK, 4, 1, "test")


@dataclass
class Bench:
    """A device with something to do."""

    device: Device
    work: Callable[[], None]
    """Give it about 10 ms of work."""
    draw: Callable[[], float]
    """A random number of the device's generator."""
    fill: Callable[[], Any]
    """Ask for more memory than there is."""


def fake(kind: str, **options: Any) -> Bench:
    environ = options.pop("environ", {})
    stand_in = make(kind, environ, gpus=6, tiles=2 if kind == "xpu" else 1, **options)
    space: FakeSpace = getattr(stand_in, kind)
    device = choose(kind, RANK, int, environ, torch=stand_in)
    return Bench(
        device,
        work=lambda: space.submit(0.01),
        draw=lambda: torch.rand((), generator=space.generators[space.current]).item(),
        fill=lambda: space.allocate(2**40),
    )


def real(name: str) -> Bench:
    device = choose(name, RankRecord(0, 1, 0, 1, 0, "test"), int, {})
    device.make_current()

    def work() -> None:
        end = time.perf_counter() + 0.01
        while time.perf_counter() < end:
            torch.ones(200, 200, device=device.torch_device).sum()

    return Bench(
        device,
        work,
        draw=lambda: torch.rand((), device=device.torch_device).item(),
        fill=lambda: torch.empty(2**55, dtype=torch.uint8, device=device.torch_device),
    )


BENCHES: dict[str, Callable[[], Bench]] = {
    "cpu": lambda: real("cpu"),
    "fake cuda": lambda: fake("cuda"),
    "fake xpu flat": lambda: fake("xpu", environ={"ZE_FLAT_DEVICE_HIERARCHY": "FLAT"}),
    "fake xpu composite": lambda: fake("xpu", environ={"ZE_FLAT_DEVICE_HIERARCHY": "COMPOSITE"}),
    "fake xpu before oneAPI 2025": lambda: fake("xpu", timed_events=False, uuids=False, has_xccl=False),
}
if torch.cuda.is_available():
    BENCHES["cuda"] = lambda: real("cuda")
if torch.xpu.is_available():
    BENCHES["xpu"] = lambda: real("xpu")


@pytest.fixture(params=BENCHES)
def bench(request: pytest.FixtureRequest) -> Bench:
    made = BENCHES[request.param]()
    made.device.make_current()
    return made


def test_name_backend_and_reason(bench: Bench) -> None:
    device = bench.device
    assert device.torch_device.type == device.name
    assert device.default_backend == {"cpu": "gloo", "cuda": "nccl", "xpu": "xccl"}[device.name]
    assert "asked for" in device.why


def test_seed_repeats_this_device_and_the_cpu(bench: Bench) -> None:
    draws = []
    for _ in range(2):
        bench.device.seed(11)
        draws.append((bench.draw(), bench.draw()))
    assert draws[0] == draws[1]
    assert draws[0][0] != draws[0][1]
    bench.device.seed(12)
    assert bench.draw() != draws[0][0]


def test_marks_add_up_and_cover_the_work(bench: Bench) -> None:
    device = bench.device
    marks = [device.mark()]
    for _ in range(2):
        bench.work()
        marks.append(device.mark())
    first, second = device.seconds_between(marks[0], marks[1]), device.seconds_between(marks[1], marks[2])
    assert first + second == pytest.approx(device.seconds_between(marks[0], marks[2]), rel=1e-6)
    assert first > 0


def test_full_memory_is_told_from_other_errors(bench: Bench) -> None:
    with pytest.raises((RuntimeError, MemoryError)) as full:
        bench.fill()
    assert bench.device.is_out_of_memory(full.value)
    assert not bench.device.is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not bench.device.is_out_of_memory(ValueError("out of range"))


def test_memory(bench: Bench) -> None:
    assert 0 <= bench.device.memory_used_bytes() <= bench.device.memory_total_bytes()


@pytest.mark.parametrize("precision", ["fp32", "fp64", "bf16", "fp16"])
def test_autocast_can_be_entered_again_and_again(bench: Bench, precision: str) -> None:
    for _ in range(2):
        with bench.device.autocast(precision):
            pass


@pytest.mark.parametrize("precision", ["fp32", "fp64", "bf16"])
def test_the_scaler_scales_for_fp16_only(bench: Bench, precision: str) -> None:
    assert not bench.device.scaler(precision).is_enabled()


def test_environment_leaves_alone_what_the_user_set(bench: Bench) -> None:
    wanted = bench.device.environment({})
    assert bench.device.environment(wanted) == {}
    assert all(row.reason for row in bench.device.variables)


def test_identity_is_none_where_sharing_is_fine(bench: Bench) -> None:
    if bench.device.name == "cpu":
        assert bench.device.identity() is None
    else:
        assert bench.device.identity() == bench.device.identity()


# What only an accelerator can get wrong.


@pytest.mark.parametrize("kind", ["cuda", "xpu"])
def test_marks_do_not_wait_for_the_device(kind: str) -> None:
    stand_in = make(kind, {}, gpus=4)
    space: FakeSpace = getattr(stand_in, kind)
    device = choose(kind, RANK, int, {}, torch=stand_in)
    device.make_current()
    device.mark()  # the first one asks once whether events are timed
    waits, marks = space.waits, []
    for _ in range(3):
        space.submit(0.25)
        marks.append(device.mark())
    assert space.waits == waits
    assert space.done[space.current] < space.queued[space.current]
    assert device.seconds_between(marks[0], marks[2]) == pytest.approx(0.5)


def test_without_timed_events_marks_wait_and_read_the_clock() -> None:
    stand_in = make("xpu", {}, gpus=6, tiles=2, timed_events=False)
    device = choose("xpu", RANK, int, {}, torch=stand_in)
    device.make_current()
    stand_in.xpu.submit(0.25)
    earlier = device.mark()
    assert stand_in.xpu.done == stand_in.xpu.queued
    assert 0 <= device.seconds_between(earlier, device.mark()) < 1


@pytest.mark.parametrize("kind", ["cuda", "xpu"])
def test_seed_leaves_the_other_devices_alone(kind: str) -> None:
    stand_in = make(kind, {}, gpus=4)
    space: FakeSpace = getattr(stand_in, kind)
    device = choose(kind, RANK, int, {}, torch=stand_in)
    device.make_current()
    before = [generator.get_state() for generator in space.generators]
    device.seed(3)
    changed = [not torch.equal(a, g.get_state()) for a, g in zip(before, space.generators, strict=True)]
    assert changed == [index == LOCAL_RANK for index in range(4)]


@pytest.mark.parametrize("kind", ["cuda", "xpu"])
def test_the_device_comes_before_the_process_group(kind: str) -> None:
    stand_in = make(kind, {}, gpus=4)
    device = choose(kind, RANK, int, {}, torch=stand_in)
    device.make_current()
    stand_in.distributed.init_process_group()
    stand_in.distributed.all_gather()
    device.make_current()  # again is fine: it is bound to this one


@pytest.mark.parametrize("kind", ["cuda", "xpu"])
def test_the_process_group_before_the_device_is_refused_instead_of_hanging(kind: str) -> None:
    stand_in = make(kind, {}, gpus=4)
    device = choose(kind, RANK, int, {}, torch=stand_in)
    stand_in.distributed.init_process_group()
    with pytest.raises(HpcDlError, match="already initialised, with device 0"):
        device.make_current()


def test_an_index_the_node_does_not_have_is_an_error_not_another_device() -> None:
    stand_in = make("cuda", {}, gpus=4)
    device = choose("cuda", RANK, int, {}, torch=stand_in)
    stand_in.cuda.physical = stand_in.cuda.physical[:1]  # a GPU fell off the bus between counting and use
    with pytest.raises(RuntimeError, match="out of range"):
        device.make_current()


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("cuda", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        ("xpu", "level_zero backend failed with error: 40 (UR_RESULT_ERROR_OUT_OF_RESOURCES)"),
        ("xpu", "UR error: UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY"),
    ],
)
def test_libraries_name_full_memory_in_their_own_words(kind: str, text: str) -> None:
    device = choose(kind, RANK, int, {}, torch=make(kind, {}, gpus=4))
    assert device.is_out_of_memory(RuntimeError(text))


@pytest.mark.parametrize("kind", ["cuda", "xpu"])
def test_autocast_names_device_and_type(kind: str) -> None:
    stand_in = make(kind, {}, gpus=4)
    device = choose(kind, RANK, int, {}, torch=stand_in)
    for precision in ("fp32", "bf16", "fp16", "fp64"):
        with device.autocast(precision):
            pass
    assert stand_in.autocasts == [(kind, torch.bfloat16), (kind, torch.float16)]
