# SPDX-License-Identifier: Apache-2.0
"""Which physical device a local rank gets, behind every mask a launcher or a user may set."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fake_torch import FakeSpace, make

from hpc_dl.cluster.machine import Machine, Ranks
from hpc_dl.cluster.rank import RankRecord
from hpc_dl.devices import choose, ipex, xpu
from hpc_dl.devices.base import Device
from hpc_dl.errors import HpcDlError


def perlmutter(local_rank: int) -> int:
    return 3 - local_rank


def pick(
    kind: str, local_rank: int, device_map: Callable[[int], int], environ: dict[str, str], gpus: int, tiles: int = 1
) -> tuple[str, Device]:
    stand_in = make(kind, environ, gpus, tiles)
    device = choose(kind, RankRecord(0, 1, local_rank, 1, 0, "test"), device_map, environ, torch=stand_in)
    device.make_current()
    space: FakeSpace = getattr(stand_in, kind)
    return space.physical[space.current], device


REVERSED = ["gpu 3", "gpu 2", "gpu 1", "gpu 0"]


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        pytest.param({}, REVERSED, id="nothing hidden"),
        pytest.param({"CUDA_VISIBLE_DEVICES": "0,1,2,3"}, REVERSED, id="Slurm, all visible"),
        pytest.param({"CUDA_VISIBLE_DEVICES": "3,2,1,0"}, REVERSED, id="reversed by hand as well"),
        pytest.param({"CUDA_VISIBLE_DEVICES": "2,3"}, ["gpu 3", "gpu 2"], id="half a node, upper half"),
        pytest.param({"CUDA_VISIBLE_DEVICES": "0,1"}, ["gpu 0", "gpu 1"], id="half a node, cgroup or lower half"),
        pytest.param({"CUDA_VISIBLE_DEVICES": "2"}, ["gpu 2"], id="one"),
    ],
)
def test_perlmutter(environ: dict[str, str], expected: list[str]) -> None:
    got = [pick("cuda", rank, perlmutter, environ, gpus=4)[0] for rank in range(len(expected))]
    assert got == expected


def test_one_gpu_per_task_is_index_0_for_every_local_rank() -> None:
    for rank in range(4):  # srun --gpus-per-task=1
        environ = {"CUDA_VISIBLE_DEVICES": str(rank)}
        got, device = pick("cuda", rank, perlmutter, environ, gpus=4)
        assert (got, device.torch_device.index) == (f"gpu {rank}", 0)
        assert "only visible device" in device.why


def test_uuids_in_the_mask_leave_the_local_rank() -> None:
    stand_in = make("cuda", {}, gpus=2)
    environ = {"CUDA_VISIBLE_DEVICES": "GPU-8f1c,GPU-02ab"}
    device = choose("cuda", RankRecord(0, 2, 1, 2, 0, "test"), perlmutter, environ, torch=stand_in)
    assert device.torch_device.index == 1
    assert "index = local rank, because CUDA_VISIBLE_DEVICES=GPU-8f1c,GPU-02ab" in device.why


@pytest.mark.parametrize(
    ("environ", "ranks", "expected"),
    [
        pytest.param({}, 12, [f"tile {r // 2}.{r % 2}" for r in range(12)], id="FLAT is the driver's default"),
        pytest.param({"ZE_AFFINITY_MASK": "4,5"}, 2, ["tile 2.0", "tile 2.1"], id="FLAT, masked for all"),
        pytest.param({"ZE_AFFINITY_MASK": "5,4"}, 2, ["tile 2.0", "tile 2.1"], id="FLAT, a mask does not reorder"),
        pytest.param({"ZE_AFFINITY_MASK": "7"}, 1, ["tile 3.1"], id="FLAT, one"),
        pytest.param(
            {"ZE_FLAT_DEVICE_HIERARCHY": "COMPOSITE"}, 6, [f"gpu {r}" for r in range(6)], id="COMPOSITE, a rank per GPU"
        ),
        pytest.param(
            {"ZE_FLAT_DEVICE_HIERARCHY": "COMPOSITE", "ZE_AFFINITY_MASK": "0.1"},
            1,
            ["tile 0.1"],
            id="COMPOSITE, a tile",
        ),
        pytest.param(
            {"ZE_FLAT_DEVICE_HIERARCHY": "COMPOSITE", "ZE_AFFINITY_MASK": "0.0,0.1"},
            1,
            ["gpu 0"],
            id="both tiles: a GPU",
        ),
        pytest.param(
            {"ZE_FLAT_DEVICE_HIERARCHY": "COMPOSITE", "ZE_AFFINITY_MASK": "1.1,3.0"},
            2,
            ["tile 1.1", "tile 3.0"],
            id="COMPOSITE, tiles of two GPUs",
        ),
    ],
)
def test_aurora(environ: dict[str, str], ranks: int, expected: list[str]) -> None:
    assert [pick("xpu", rank, int, environ, gpus=6, tiles=2)[0] for rank in range(ranks)] == expected


def test_a_rank_behind_its_own_mask_sees_one_tile() -> None:
    for rank in range(12):
        got, _ = pick("xpu", rank, int, {"ZE_AFFINITY_MASK": str(rank)}, gpus=6, tiles=2)
        assert got == f"tile {rank // 2}.{rank % 2}"


def test_twelve_ranks_in_composite_mode_are_told_about_flat() -> None:
    environ = {"ZE_FLAT_DEVICE_HIERARCHY": "COMPOSITE"}
    with pytest.raises(HpcDlError, match="only 6 are visible") as caught:
        pick("xpu", 6, int, environ, gpus=6, tiles=2)
    assert "ZE_FLAT_DEVICE_HIERARCHY=FLAT" in caught.value.remedy


def test_thirteen_ranks_in_flat_mode_are_too_many() -> None:
    with pytest.raises(HpcDlError, match="only 12 are visible") as caught:
        pick("xpu", 12, int, {}, gpus=6, tiles=2)
    assert "FLAT" not in caught.value.remedy


def test_a_composite_mask_in_flat_mode_hides_everything_and_the_error_says_why() -> None:
    with pytest.raises(HpcDlError, match="form of COMPOSITE mode") as caught:
        pick("xpu", 0, int, {"ZE_AFFINITY_MASK": "0.0"}, gpus=6, tiles=2)
    assert "gpu_tile_compact" in caught.value.remedy


@pytest.mark.parametrize("kind", ["cuda", "xpu"])
def test_everything_hidden_names_the_variable(kind: str) -> None:
    environ = {"CUDA_VISIBLE_DEVICES": ""} if kind == "cuda" else {"ZE_AFFINITY_MASK": "99"}
    name = next(iter(environ))
    with pytest.raises(HpcDlError, match=f"{name}="):
        pick(kind, 0, int, environ, gpus=4)


def test_auto_takes_the_accelerator_that_is_there() -> None:
    rank = RankRecord(0, 1, 0, 1, 0, "test")
    assert choose("auto", rank, int, {}, torch=make("cuda", {}, gpus=4)).name == "cuda"
    assert choose("auto", rank, int, {}, torch=make("xpu", {}, gpus=6)).name == "xpu"
    hidden = {"CUDA_VISIBLE_DEVICES": ""}
    assert choose("auto", rank, int, hidden, torch=make("cuda", hidden, gpus=4)).name == "cpu"


def test_identities_differ_between_ranks_and_agree_behind_masks() -> None:
    plain = {pick("xpu", rank, int, {}, 6, 2)[1].identity() for rank in range(12)}
    masked = {pick("xpu", rank, int, {"ZE_AFFINITY_MASK": str(rank)}, 6, 2)[1].identity() for rank in range(12)}
    assert len(plain) == 12
    assert plain == masked


def test_two_ranks_behind_the_same_mask_show_the_same_device() -> None:
    environ = {"CUDA_VISIBLE_DEVICES": "0"}
    assert len({pick("cuda", rank, int, environ, gpus=4)[1].identity() for rank in range(2)}) == 1


# The order of imports, where IPEX has a place in it.


def test_ipex_before_what_follows_it_is_fine() -> None:
    xpu.check_order(["mpi4py.MPI", "torch", xpu.IPEX, "horovod.torch", xpu.BINDINGS])
    xpu.check_order(["torch", "horovod.torch"])


@pytest.mark.parametrize("early", ["horovod.torch", xpu.BINDINGS])
def test_ipex_behind_its_followers_is_refused(early: str) -> None:
    with pytest.raises(HpcDlError, match=f"{early} was imported before it"):
        ipex.load("xpu", importer=lambda name: name, imported=["torch", early])


def test_ipex_makes_the_devices_of_an_old_stack_visible() -> None:
    environ: dict[str, str] = {}
    stand_in = make("xpu", environ, gpus=6, tiles=2, has_xccl=False)
    stand_in.version.xpu = None  # torch 2.5 of IPEX's time: the devices are there once IPEX is imported
    devices, stand_in.xpu.physical = stand_in.xpu.physical, []
    rank = RankRecord(0, 1, 0, 1, 0, "test")
    with pytest.raises(HpcDlError) as caught:
        choose("xpu", rank, int, environ, torch=stand_in)
    assert "--device.ipex true" in caught.value.remedy

    def importer(name: str) -> object:
        stand_in.xpu.physical = devices
        return name

    assert ipex.load("xpu", importer, imported=["torch"]) == xpu.IPEX
    assert choose("xpu", rank, int, environ, torch=stand_in).name == "xpu"


def raises(error: BaseException) -> Callable[[str], object]:
    def importer(name: str) -> object:
        raise error

    return importer


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ModuleNotFoundError("No module named 'intel_extension_for_pytorch'"), "not installed"),
        (SystemExit(127), "does not load beside this torch"),
        (ImportError("undefined symbol: _ZN3c10"), "undefined symbol"),
    ],
)
def test_ipex_that_cannot_be_had_is_refused_with_the_remedy(error: BaseException, words: str) -> None:
    with pytest.raises(HpcDlError, match=words) as caught:
        ipex.load("cpu", raises(error))
    assert "intel-extension-for-pytorch 2.8.0" in caught.value.remedy


def test_ipex_has_nothing_for_cuda() -> None:
    with pytest.raises(HpcDlError, match="nothing for cuda"):
        ipex.load("cuda")


def test_a_record_that_names_devices_twice_lets_ranks_share_them() -> None:
    machine = Machine("mine", ranks=Ranks(per_node=4, device_order=(0, 0, 1, 1)))
    assert machine.ranks_per_device == 2
    got = [pick("cuda", rank, machine.device_index, {}, gpus=2)[0] for rank in range(4)]
    assert got == ["gpu 0", "gpu 0", "gpu 1", "gpu 1"]
    hidden = {"CUDA_VISIBLE_DEVICES": "GPU-8f1c,GPU-02ab"}  # what these are cannot be told: in order, then
    for rank in range(4):
        device = choose(
            "cuda", RankRecord(0, 4, rank, 4, 0, "test"), machine.device_index, hidden, torch=make("cuda", {}, 2)
        )
        assert device.torch_device.index == rank // 2
    with pytest.raises(HpcDlError, match="only 2 are visible"):
        pick("cuda", 4, machine.device_index, {}, gpus=2)


def test_without_such_a_record_they_may_not() -> None:
    assert Machine("mine").ranks_per_device == 1
    with pytest.raises(HpcDlError, match="only 2 are visible"):
        pick("cuda", 2, Machine("mine").device_index, {}, gpus=2)
