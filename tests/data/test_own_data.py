# SPDX-License-Identifier: Apache-2.0
"""Your own data: read exactly, larger than memory, by loader processes too; what is wrong is named before training."""

from __future__ import annotations

import pickle
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from hpc_dl.data import folders, hdf5, npy, text, tokens
from hpc_dl.data.base import Source
from hpc_dl.data.sharding import Plan
from hpc_dl.data.workers import Loader
from hpc_dl.errors import HpcDlError

Writer = Callable[[Path, dict[str, np.ndarray]], dict[str, object]]


def whole(source: Source) -> tuple[torch.Tensor, torch.Tensor]:
    return source.batch(np.arange(len(source)))


def samples(count: int, seed: int = 0) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {
        "inputs": generator.standard_normal((count, 3, 4)).astype(np.float32),
        "target": generator.integers(0, 5, count),
    }


def as_npy(folder: Path, shards: dict[str, dict[str, np.ndarray]]) -> dict[str, object]:
    for shard, arrays in shards.items():
        for name, array in arrays.items():
            np.save(folder / f"{name}-{shard}.npy", array)
    return {"inputs": str(folder / "inputs-*.npy"), "target": str(folder / "target-*.npy")}


def as_hdf5(folder: Path, shards: dict[str, dict[str, np.ndarray]]) -> dict[str, object]:
    for shard, arrays in shards.items():
        with h5py.File(folder / f"{shard}.h5", "w") as file:
            for name, array in arrays.items():
                file.create_dataset(name, data=array, chunks=array.size > 0 or None)
    return {"files": str(folder / "*.h5")}


FORMS = [pytest.param(npy.load, as_npy, id="npy"), pytest.param(hdf5.load, as_hdf5, id="hdf5")]


@pytest.mark.parametrize(("load", "write"), FORMS)
def test_shards_are_one_array_read_in_any_order(load: Callable, write: Callable, tmp_path: Path) -> None:
    shards = {"a": samples(7, 1), "b": samples(1, 2), "c": samples(12, 3)}
    data = load(**write(tmp_path, shards), held_back=0.25)
    both = [torch.cat(parts) for parts in zip(whole(data.train), whole(data.evaluation), strict=True)]
    inputs = np.concatenate([shard["inputs"] for shard in shards.values()])
    target = np.concatenate([shard["target"] for shard in shards.values()])
    order, ours = np.lexsort(inputs.reshape(20, -1).T), np.lexsort(both[0].numpy().reshape(20, -1).T)
    assert np.array_equal(both[0].numpy()[ours], inputs[order])
    assert np.array_equal(both[1].numpy()[ours], target[order])
    assert len(data.evaluation) == 5
    some = np.array([14, 2, 2, 0, 9])
    assert torch.equal(data.train.batch(some)[0], whole(data.train)[0][some])


@pytest.mark.parametrize(("load", "write"), FORMS)
def test_types_are_what_torch_wants(load: Callable, write: Callable, tmp_path: Path) -> None:
    arrays = {"inputs": np.arange(40, dtype=np.uint8).reshape(10, 4), "target": np.arange(10, dtype=np.int16)}
    inputs, target = whole(load(**write(tmp_path, {"a": arrays}), scale=1 / 255, held_back=0.5).train)
    assert (inputs.dtype, target.dtype) == (torch.float32, torch.int64)
    assert 35 / 255 < float(inputs.max()) < 40 / 255
    again = {"inputs": arrays["inputs"].astype(">f8"), "target": arrays["target"].astype(np.float64)[:, None]}
    (tmp_path / "again").mkdir()
    inputs, target = whole(load(**write(tmp_path / "again", {"a": again}), held_back=0.5).train)
    assert (inputs.dtype, target.dtype, tuple(target.shape)) == (torch.float32, torch.float32, (5, 1))


@pytest.mark.parametrize(("load", "write"), FORMS)
def test_loader_processes_read_the_same(load: Callable, write: Callable, tmp_path: Path) -> None:
    data = load(**write(tmp_path, {"a": samples(20, 1), "b": samples(11, 2)}))
    whole(data.train)  # opened here first: a handle of this process must not reach the others
    plan = Plan(samples=len(data.train), world_size=2, rank=1, local_batch=4)
    expected = list(Loader(data.train, plan).epoch(0))
    for ours, theirs in zip(expected, Loader(data.train, plan, workers=1).epoch(0), strict=True):
        assert torch.equal(ours[0][0].batch[0], theirs[0][0].batch[0])
        assert torch.equal(ours[0][0].batch[1], theirs[0][0].batch[1])


def spoilt(**changes: object) -> dict[str, np.ndarray]:
    return {**samples(6), **changes}  # type: ignore[dict-item]


@pytest.mark.parametrize(("load", "write"), FORMS)
@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        (spoilt(inputs=np.zeros((6, 3, 5), np.float32)), r"rows of shape \(3, 5\).*has \(3, 4\)"),
        (spoilt(inputs=np.zeros((6, 3, 4), np.float64)), "float64.*float32"),
        (spoilt(inputs=np.zeros((0, 3, 4), np.float32), target=np.zeros(0, int)), r"no rows \(shape \(0, 3, 4\)\)"),
        (spoilt(target=np.zeros(5, int)), r"\[6, 6\] and \[6, 5\] rows"),
        (spoilt(target=np.array([b"cat"] * 6)), r"values of type \|S3"),
    ],
)
def test_what_is_wrong_with_a_shard_is_named(
    load: Callable, write: Callable, arrays: dict[str, np.ndarray], words: str, tmp_path: Path
) -> None:
    good = samples(6)
    with pytest.raises(HpcDlError, match=words) as caught:
        load(**write(tmp_path, {"a": good, "b": arrays}))
    assert "b." in str(caught.value) or "-b." in str(caught.value) or "rows" in str(caught.value)
    assert caught.value.remedy


def test_npy_files_that_are_none_are_named(tmp_path: Path) -> None:
    options = as_npy(tmp_path, {"a": samples(8)})
    path = tmp_path / "inputs-a.npy"
    content = path.read_bytes()
    for spoil, words in [
        (content[:-1], "cut short"),
        (content[:20], "not a readable .npy file"),
        (b"PK" + content[2:], "not a readable .npy file"),
    ]:
        path.write_bytes(spoil)
        with pytest.raises(HpcDlError, match=words):
            npy.load(**options)  # type: ignore[arg-type]
    np.save(path, np.asfortranarray(samples(8)["inputs"]))
    with pytest.raises(HpcDlError, match="Fortran order"):
        npy.load(**options)  # type: ignore[arg-type]
    np.save(path, np.array([{}] * 8), allow_pickle=True)
    with pytest.raises(HpcDlError, match="Python objects"):
        npy.load(**options)  # type: ignore[arg-type]
    with pytest.raises(HpcDlError, match=r"inputs = '.*nowhere.npy': no such file"):
        npy.load(inputs=str(tmp_path / "nowhere.npy"), target="x")


def test_hdf5_files_that_are_none_and_keys_are_named(tmp_path: Path) -> None:
    options = as_hdf5(tmp_path, {"a": samples(8)})
    with pytest.raises(HpcDlError, match="did you mean inputs"):
        hdf5.load(**options, inputs="input")  # type: ignore[arg-type]
    path = tmp_path / "b.h5"
    path.write_bytes((tmp_path / "a.h5").read_bytes()[:-100])
    with pytest.raises(HpcDlError, match=r"b\.h5.*\n?.*not a whole HDF5 file"):
        hdf5.load(**options)  # type: ignore[arg-type]


def test_hdf5_without_h5py_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = as_hdf5(tmp_path, {"a": samples(8)})
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(HpcDlError, match=r"pip install 'hpc_dl\[hdf5\]'"):
        hdf5.load(**options)  # type: ignore[arg-type]


def test_hdf5_is_read_while_another_program_holds_the_lock(tmp_path: Path) -> None:
    options = as_hdf5(tmp_path, {"a": samples(8)})
    hold = f"import h5py; f = h5py.File({str(tmp_path / 'a.h5')!r}, 'a'); print('held', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert len(whole(hdf5.load(**options).train)[0]) == 7  # type: ignore[arg-type]
        holder.communicate("\n", timeout=30)


def test_a_large_mapped_array_stays_out_of_memory(tmp_path: Path) -> None:
    """1 GB on a sparse file is read whole by a process that grows by less than a third of it."""
    rows, width = 2000, 128 * 1024
    header = np.lib.format.open_memmap(tmp_path / "inputs.npy", "w+", np.float32, (rows, width))
    del header
    np.save(tmp_path / "target.npy", np.arange(rows))
    code = f"""
import resource, numpy as np
from hpc_dl.data import npy
data = npy.load({str(tmp_path / "inputs.npy")!r}, {str(tmp_path / "target.npy")!r}, held_back=0.01)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
order = np.random.default_rng(0).permutation(len(data.train))
total = 0
for step in range(0, len(order), 8):
    inputs, target = data.train.batch(order[step : step + 8])
    total += len(target)
print(total, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    total, grown_kilobytes = map(int, done.stdout.split())  # ru_maxrss counts kilobytes on Linux
    assert total == 1980
    assert grown_kilobytes < 300 * 1024


def test_mapped_arrays_travel_without_their_map(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(10))
    rows = npy.open_npy(tmp_path / "x.npy")
    rows.take(np.array([1]))
    assert pickle.loads(pickle.dumps(rows)).take(np.array([3, 1])).tolist() == [3, 1]


def test_hundreds_of_files_do_not_use_up_the_open_files(tmp_path: Path) -> None:
    for number in range(300):
        np.save(tmp_path / f"inputs-{number:03}.npy", np.full((2, 1), number, np.float32))
        np.save(tmp_path / f"target-{number:03}.npy", np.full(2, number))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (350, limits[1]))
    try:
        data = npy.load(str(tmp_path / "inputs-*.npy"), str(tmp_path / "target-*.npy"), held_back=0.5)
        inputs, target = whole(data.train)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert torch.equal(inputs[:, 0].long(), target)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for number, name in enumerate(("ant", "bee")):
        (tmp_path / name).mkdir()
        for shade in range(3):
            picture = Image.new("RGB", (40, 20 + 10 * number), (60 * shade, 0, 255))
            picture.save(tmp_path / name / f"{shade}.png")
    return tmp_path


def test_image_folders(images: Path) -> None:
    source = folders.Images(images, size=16)
    inputs, labels = whole(source)
    assert (tuple(inputs.shape), source.classes, labels.tolist()) == ((6, 3, 16, 16), ["ant", "bee"], [0] * 3 + [1] * 3)
    expected = torch.tensor([60 * i / 127.5 - 1 for i in (0, 1, 2)] * 2)
    torch.testing.assert_close(inputs[:, 0, 8, 8], expected)
    assert float(inputs[:, 2].min()) == 1
    assert folders.load(str(images), size=8, channels=1).train.batch(np.arange(2))[0].shape == (2, 1, 8, 8)
    assert source.batch(np.arange(0))[0].shape == (0, 3, 16, 16)


def test_a_written_list_is_used_instead_of_looking(images: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hpc_dl.data.folders", str(images)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "6 images" in done.stdout
    (images / "bee" / "new.png").write_bytes((images / "bee" / "0.png").read_bytes())
    assert len(folders.Images(images, size=8)) == 6
    assert folders.write_list(images) == 7


def test_what_is_wrong_with_image_folders_is_named(images: Path) -> None:
    (images / "bee" / "0.png").write_bytes(b"not an image")
    with pytest.raises(HpcDlError, match=r"bee/0\.png: cannot be read"):
        folders.load(str(images), size=8)
    (images / "cat").mkdir()
    with pytest.raises(HpcDlError, match=r"images in .*cat: none"):
        folders.load(str(images), size=8)
    with pytest.raises(HpcDlError, match="no such folder"):
        folders.load(str(images / "dog"))
    with pytest.raises(HpcDlError, match="no folders of classes"):
        folders.load(str(images / "ant"))
    with pytest.raises(HpcDlError, match="neither grey nor colour"):
        folders.Images(images / "ant", size=8, channels=2)


def test_evaluation_must_have_the_same_classes(images: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    (other / "ant").mkdir()
    (other / "ant" / "0.png").write_bytes((images / "ant" / "0.png").read_bytes())
    with pytest.raises(HpcDlError, match="only one of them has bee"):
        folders.load(str(images), str(other), size=8)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32"])
def test_token_windows_follow_each_other(dtype: str, tmp_path: Path) -> None:
    path = tmp_path / "text.bin"
    np.arange(101).astype(dtype).tofile(path)
    data = tokens.load(str(path), str(path), length=10, dtype=dtype, vocabulary=101)  # type: ignore[arg-type]
    assert len(data.train) == 10
    inputs, following = data.train.batch(np.array([9, 0]))
    assert inputs.tolist() == [list(range(90, 100)), list(range(10))]
    assert following.tolist() == [list(range(91, 101)), list(range(1, 11))]


def test_what_is_wrong_with_token_files_is_named(tmp_path: Path) -> None:
    path = tmp_path / "text.bin"
    np.arange(100, dtype=np.uint16).tofile(path)
    for options, words in [
        ({"dtype": "uint16", "vocabulary": 50}, "in a vocabulary of 50"),
        ({"length": 100, "dtype": "uint16"}, "100 tokens, a window and the token after it need 101"),
        ({"length": 10, "dtype": "uint32", "vocabulary": 100}, "in a vocabulary of 100"),
    ]:
        with pytest.raises(HpcDlError, match=words):
            tokens.load(str(path), str(path), **{"length": 10, **options})  # type: ignore[arg-type]
    path.write_bytes(b"x" * 101)
    with pytest.raises(HpcDlError, match="101 bytes, no whole number of uint16"):
        tokens.load(str(path), str(path), length=10)


def test_the_library_as_text_is_python_and_held_back_files_are_others(tmp_path: Path) -> None:
    data = text.load(length=64, folder=str(tmp_path), evaluation_windows=200)
    assert len(data.train) * 64 > 5e6
    assert len(data.evaluation) == 200
    everything = (tmp_path / next(p.name for p in tmp_path.iterdir() if "train" in p.name)).read_bytes()
    assert everything.count(b"import ") > 1000
    windows, _ = whole(data.evaluation)
    odd = [bytes(window.tolist()) for window in windows if len(set(window.tolist())) > 20]
    assert sum(window in everything for window in odd) < len(odd) / 4  # licences and the like occur in many files
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        f"{p.name}" for p in tmp_path.glob("hpc-dl-text-python-*-*.bin")
    )
