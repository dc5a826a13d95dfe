# SPDX-License-Identifier: Apache-2.0
"""What the build of Horovod finds out, on made-up installations of torch, MPI, CUDA and NCCL."""

from __future__ import annotations

from pathlib import Path

import pytest

from launch.horovod import facts


def _torch(folder: Path, version: str, cuda: str | None, standard: int | None) -> Path:
    (folder / "share/cmake/Torch").mkdir(parents=True)
    (folder / "version.py").write_text(
        f"__version__ = '{version}'\ncuda: Optional[str] = {cuda!r}\nhip: Optional[str] = None\n"
    )
    if standard:
        (folder / "share/cmake/Torch/TorchConfig.cmake").write_text(f"    CXX_STANDARD {standard}\n")
    return folder


def _mpi(prefix: Path, header: str) -> str:
    (prefix / "bin").mkdir(parents=True)
    (prefix / "include").mkdir()
    (prefix / "include/mpi.h").write_text(header)
    wrapper = prefix / "bin/mpicxx"
    wrapper.write_text(f"#!/bin/sh\necho 'c++ -I{prefix}/include -L{prefix}/lib -lmpi'\n")
    wrapper.chmod(0o755)
    return str(wrapper)


MPICH = '#define MPICH_VERSION "4.3.2"\n#define MPI_VERSION 4\n'
OPEN_MPI = "#define OMPI_MAJOR_VERSION 5\n#define OMPI_MINOR_VERSION 0\n#define OMPI_RELEASE_VERSION 11\n"


def test_torch_names_its_version_its_cuda_and_its_standard(tmp_path: Path) -> None:
    found = facts.torch_facts(_torch(tmp_path, "2.13.0+cpu", None, 20))
    assert found == {"TORCH": "2.13.0+cpu", "TORCH_CUDA": "", "CXX_STANDARD": "20"}


def test_a_torch_that_names_no_standard_gets_17(tmp_path: Path) -> None:
    assert facts.torch_facts(_torch(tmp_path, "2.3.1+cu121", "12.1", None))["CXX_STANDARD"] == "17"


def test_the_installed_torch_is_read_right() -> None:
    import torch

    found = facts.torch_facts(facts.package_folder("torch"))
    assert (found["TORCH"], found["TORCH_CUDA"]) == (torch.__version__, torch.version.cuda or "")


@pytest.mark.parametrize(
    ("header", "name"), [(MPICH, "mpich4.3.2"), (OPEN_MPI, "openmpi5.0.11"), ("", "mpich-unknown")]
)
def test_mpi_tells_its_name_by_its_header(tmp_path: Path, header: str, name: str) -> None:
    assert facts.mpi_facts(_mpi(tmp_path, header), tmp_path)["MPI"] == name


def test_an_mpi_that_can_run_but_not_compile_is_named(tmp_path: Path) -> None:
    wrapper = _mpi(tmp_path, MPICH)
    (tmp_path / "include/mpi.h").unlink()
    with pytest.raises(facts.Missing, match="development package"):
        facts.mpi_facts(wrapper, tmp_path)


def test_missing_python_headers_are_named_with_the_package_that_has_them(tmp_path: Path) -> None:
    with pytest.raises(facts.Missing, match=f"no Python.h in {tmp_path}.*apt install python3-dev"):
        facts.check_python_headers(tmp_path)
    (tmp_path / "Python.h").touch()
    facts.check_python_headers(tmp_path)


def test_a_folder_with_a_blank_is_named_because_wrappers_cannot_quote_it(tmp_path: Path) -> None:
    with pytest.raises(facts.Missing, match="a blank in its name: rename it"):
        facts.mpi_facts(_mpi(tmp_path / "my checkout", MPICH), tmp_path)


def test_mpi_of_the_environment_is_found_by_a_relative_path(tmp_path: Path) -> None:
    folders = facts.mpi_facts(_mpi(tmp_path, MPICH), tmp_path)["RPATH"].split(";")
    assert all(folder.startswith("$ORIGIN/") for folder in folders)


def test_mpi_of_the_machine_comes_first_in_the_library_path(tmp_path: Path) -> None:
    found = facts.mpi_facts(_mpi(tmp_path / "mpi", MPICH), tmp_path / "environment")
    assert found["RPATH"].split(";")[0] == f"{tmp_path}/mpi/lib"


@pytest.mark.parametrize("where", ["MPICXX", "environment", "PATH", "MPICH_DIR"])
def test_the_mpi_wrapper_is_found_wherever_it_may_be(tmp_path: Path, where: str) -> None:
    wrapper = _mpi(tmp_path / "mpi", MPICH)
    prefix = tmp_path / ("mpi" if where == "environment" else "elsewhere")
    environ = {
        "MPICXX": {"MPICXX": wrapper},
        "PATH": {"PATH": str(tmp_path / "mpi/bin")},
        "MPICH_DIR": {"MPICH_DIR": str(tmp_path / "mpi")},
    }.get(where, {})
    assert facts.find_mpi_wrapper(prefix, {"PATH": "/nowhere"} | environ) == wrapper


def test_no_mpi_is_said_with_the_cure(tmp_path: Path) -> None:
    with pytest.raises(facts.Missing, match="pip install mpich"):
        facts.find_mpi_wrapper(tmp_path, {"PATH": "/nowhere"})


def test_the_cuda_toolkit_is_found_through_a_script_that_stands_for_nvcc(tmp_path: Path) -> None:
    toolkit = tmp_path / "cuda"
    (toolkit / "include").mkdir(parents=True)
    (toolkit / "include/cuda.h").write_text("#define CUDA_VERSION 12080\n")
    nvcc = tmp_path / "bin/nvcc"
    nvcc.parent.mkdir()
    nvcc.write_text(f"#!/bin/sh\necho '#$ TOP={toolkit}/bin/..' >&2\nexit 1\n")
    nvcc.chmod(0o755)
    (toolkit / "bin").mkdir()
    assert facts.cuda_facts({"PATH": str(nvcc.parent)}) == {"CUDA_HOME": str(toolkit), "CUDA": "12.8"}


def test_torchs_own_nccl_is_taken_unless_another_is_asked_for(tmp_path: Path) -> None:
    def nccl(home: Path, minor: int) -> Path:
        (home / "include").mkdir(parents=True)
        (home / "lib").mkdir()
        (home / "include/nccl.h").write_text(
            f"#define NCCL_MAJOR 2\n#define NCCL_MINOR {minor}\n#define NCCL_PATCH 3\n"
        )
        (home / "lib/libnccl.so.2").touch()
        return home

    nccl(tmp_path / "nvidia/nccl", 27)
    module = str(nccl(tmp_path / "module", 24))
    assert facts.nccl_facts(tmp_path, {"NCCL_HOME": module})["NCCL"] == "2.27.3"
    assert facts.nccl_facts(tmp_path, {"HOROVOD_NCCL_HOME": module})["NCCL"] == "2.24.3"
    with pytest.raises(facts.Missing, match="module load nccl"):
        facts.nccl_facts(tmp_path / "empty", {})


BASE = {
    "HOROVOD": "0.28.1",
    "VARIANT": "cpu",
    "TORCH": "2.13.0+cpu",
    "MPI": "mpich5.0.2",
    "RPATH": "$ORIGIN/../../../..",
}


@pytest.mark.parametrize(
    "change",
    [
        {"TORCH": "2.8.0+cu128"},
        {"MPI": "openmpi5.0.11"},
        {"VARIANT": "nccl", "NCCL": "2.27.3", "CUDA": "12.8"},
        {"CUDA": "13.0"},
        {"RPATH": "/opt/mpi/lib;$ORIGIN/../../../.."},
    ],
)
def test_a_wheel_is_kept_apart_for_all_it_was_built_against(change: dict[str, str]) -> None:
    key = facts.cache_key(BASE, "cp311", "x86_64")
    assert key == "horovod-0.28.1-cpu-torch-2.13.0+cpu-mpich5.0.2-cp311-x86_64"
    assert facts.cache_key(BASE | change, "cp311", "x86_64") != key


def test_a_wheel_is_kept_apart_for_python_and_processor() -> None:
    keys = {
        facts.cache_key(BASE, python, machine) for python in ("cp311", "cp312") for machine in ("x86_64", "aarch64")
    }
    assert len(keys) == 4
