# SPDX-License-Identifier: Apache-2.0
"""Choosing a device on a machine that has only the CPU, and the CPU itself."""

import subprocess
import sys

import pytest
import torch

from hpc_dl.cluster.rank import RankRecord
from hpc_dl.devices import choose
from hpc_dl.devices.base import Device
from hpc_dl.errors import HpcDlError

RANK = RankRecord(0, 1, 0, 1, 0, "single")
HAS_ACCELERATOR = torch.cuda.is_available() or torch.xpu.is_available()


@pytest.fixture
def cpu() -> Device:
    return choose("cpu", RANK, int, {})


def test_importing_the_room_imports_no_torch() -> None:
    code = "import sys, hpc_dl.devices, hpc_dl.devices.threads; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


@pytest.mark.skipif(HAS_ACCELERATOR, reason="this machine has an accelerator, so auto picks that")
def test_auto_says_why_it_took_the_cpu() -> None:
    device = choose("auto", RANK, int, {})
    assert device.name == "cpu"
    assert "no xpu (torch" in device.why
    assert "no cuda (torch" in device.why


@pytest.mark.skipif(HAS_ACCELERATOR, reason="this machine has an accelerator, so asking for one works")
@pytest.mark.parametrize("name", ["cuda", "xpu"])
def test_a_device_that_is_not_there_is_refused_with_a_remedy(name: str) -> None:
    with pytest.raises(HpcDlError, match=f"device '{name}'") as caught:
        choose(name, RANK, int, {})
    assert "--device.name cpu" in caught.value.remedy


def test_a_misspelt_device_is_told_its_neighbours() -> None:
    with pytest.raises(HpcDlError, match="did you mean cuda"):
        choose("cudo", RANK, int, {})


def test_seed_repeats_the_cpu_generator_and_leaves_others_alone(cpu: Device) -> None:
    own = torch.Generator().manual_seed(5)
    state = own.get_state()
    cpu.seed(17)
    first = torch.rand(4)
    cpu.seed(17)
    assert torch.equal(first, torch.rand(4))
    assert torch.equal(own.get_state(), state)


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_autocast_gives_matrix_products_the_precision(cpu: Device, precision: str, dtype: torch.dtype) -> None:
    for _ in range(2):
        with cpu.autocast(precision):
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


def test_marks_measure_seconds(cpu: Device) -> None:
    marks = [cpu.mark() for _ in range(3)]
    parts = cpu.seconds_between(marks[0], marks[1]) + cpu.seconds_between(marks[1], marks[2])
    assert parts == pytest.approx(cpu.seconds_between(marks[0], marks[2]))
    assert 0 <= parts < 1


def test_memory_grows_with_a_tensor(cpu: Device) -> None:
    before = cpu.memory_used_bytes()
    held = torch.ones(20_000_000)
    assert 60e6 < cpu.memory_used_bytes() - before < 200e6
    assert cpu.memory_used_bytes() < cpu.memory_total_bytes()
    del held


def test_out_of_memory_is_told_from_other_errors(cpu: Device) -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**55)
    assert cpu.is_out_of_memory(caught.value)
    with pytest.raises(RuntimeError) as other:
        torch.ones(2) @ torch.ones(3)
    assert not cpu.is_out_of_memory(other.value)
