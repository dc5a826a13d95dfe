# SPDX-License-Identifier: Apache-2.0
"""What a build of Horovod has to know about this Python, torch, MPI and CUDA: NAME=value lines for build_horovod.sh.

Standard library only, and nothing is imported or run but the MPI and CUDA compiler wrappers: it works on a login node.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

HOROVOD = "0.28.1"
VARIANTS = ("cpu", "nccl")
# horovod/torch/*.so lies two folders below site-packages, and that two below the environment's lib.
RELATIVE_RPATH = ("$ORIGIN/../../../..", "$ORIGIN/../../torch/lib", "$ORIGIN/../../nvidia/nccl/lib")


class Missing(Exception):
    """Something the build needs is not there; the text says what, and what to do."""


def facts(variant: str, prefix: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Everything build_horovod.sh needs, the name of the wheel's cache folder among it.

    Args:
        variant: "cpu" (MPI and Gloo) or "nccl" (these, and NCCL for CUDA tensors).
        prefix: Root of the environment Horovod is built for.
        environ: Environment variables.
    """
    if variant not in VARIANTS:
        raise Missing(f"'{variant}' is no variant of the build: give one of {', '.join(VARIANTS)}")
    check_python_headers(Path(sysconfig.get_path("include")))
    site_packages = package_folder("torch").parent
    torch = torch_facts(site_packages / "torch")
    mpi = mpi_facts(find_mpi_wrapper(prefix, environ), prefix)
    if not site_packages.is_relative_to(prefix):  # a torch that the environment takes from a module
        mpi["RPATH"] += f";{site_packages / 'torch/lib'}"
    cuda = cuda_facts(environ) if torch["TORCH_CUDA"] else {}
    if variant == "nccl":
        if not torch["TORCH_CUDA"]:
            raise Missing(
                f"torch {torch['TORCH']} is a build without CUDA: install one with it, or build the cpu variant"
            )
        if not cuda:
            raise Missing("no CUDA toolkit: load one (module load cudatoolkit) or set CUDA_HOME to its folder")
        cuda |= nccl_facts(site_packages, environ)
    found = {"HOROVOD": HOROVOD, "VARIANT": variant, "SITE_PACKAGES": str(site_packages), **torch, **mpi, **cuda}
    return found | {"KEY": cache_key(found, f"cp{sys.version_info[0]}{sys.version_info[1]}", platform.machine())}


def cache_key(found: Mapping[str, str], python: str, machine: str) -> str:
    """Name of the folder that keeps the wheel: equal names mean that the wheel fits."""
    words = ["horovod", found["HOROVOD"], found["VARIANT"], "torch", found["TORCH"], found["MPI"], python, machine]
    for name in ("CUDA", "NCCL"):
        if name in found:
            words += [name.lower(), found[name]]
    # Folders outside the environment are written into the wheel, so they belong to its name.
    outside = [folder for folder in found["RPATH"].split(";") if not folder.startswith("$ORIGIN")]
    return "-".join(words + [hashlib.sha256(folder.encode()).hexdigest()[:8] for folder in outside])


def check_python_headers(folder: Path) -> None:
    """torch's C++ extensions include Python.h; distributions keep it in a package of its own."""
    if not (folder / "Python.h").exists():
        raise Missing(
            f"Python's headers are missing (no Python.h in {folder}): install them (Debian: apt install python3-dev; "
            "Fedora, SLES: python3-devel), or set PYTHON to one of a module or of conda, which bring theirs"
        )


def package_folder(name: str) -> Path:
    """Folder of an installed package, found without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise Missing(f"{name} is not installed in {sys.prefix}: install it first, Horovod is compiled against it")
    return Path(spec.origin).parent


def torch_facts(folder: Path) -> dict[str, str]:
    """Version, CUDA version ("" for none) and the C++ standard of torch's headers, read from its own files.

    torch names the standard in TorchConfig.cmake: 17 from torch 2.1, 20 later. (The #error line in its headers lags.)
    """
    text = (folder / "version.py").read_text()
    version = re.search(r"^__version__ = '(.+)'", text, re.M)
    cuda = re.search(r"^cuda.*= '(.+)'", text, re.M)
    config = folder / "share/cmake/Torch/TorchConfig.cmake"
    standards = re.findall(r"CXX_STANDARD (\d+)", config.read_text()) if config.exists() else []
    if version is None:
        raise Missing(f"{folder}/version.py names no version: this torch is broken, install it again")
    return {
        "TORCH": version[1],
        "TORCH_CUDA": cuda[1] if cuda else "",
        "CXX_STANDARD": max(standards, default="17"),
    }


def find_mpi_wrapper(prefix: Path, environ: Mapping[str, str]) -> str:
    """The MPI C++ compiler wrapper: MPICXX, the environment's own, the one on PATH, Cray MPICH's."""
    asked, cray = environ.get("MPICXX"), environ.get("MPICH_DIR")
    for candidate in (asked, str(prefix / "bin/mpicxx"), "mpicxx", cray and f"{cray}/bin/mpicxx"):
        path = shutil.which(candidate, path=environ.get("PATH")) if candidate else None
        if path:
            return path
    raise Missing("no MPI (no mpicxx on PATH): pip install mpich, or load the machine's MPI module, or set MPICXX")


def mpi_facts(wrapper: str, prefix: Path) -> dict[str, str]:
    """The wrapper, name and version of its MPI, and the library folders to look in when Horovod is loaded."""
    show = subprocess.run([wrapper, "-show"], capture_output=True, text=True, check=False, timeout=60).stdout
    words = shlex.split(show)
    headers = [Path(word[2:]) / "mpi.h" for word in words if word.startswith("-I")]
    if headers and not any(header.exists() for header in headers):
        if " " in wrapper:
            raise Missing(f"{wrapper}: MPI's compiler wrappers fail in a folder with a blank in its name: rename it")
        raise Missing(f"{wrapper} is there, its mpi.h is not: install MPI's development package, or pip install mpich")
    defines = dict(
        line
        for header in headers
        if header.exists()
        for line in re.findall(r'^#define\s+(\w+_VERSION)\s+"?([\w.]+)"?', header.read_text(errors="replace"), re.M)
    )
    if "OMPI_MAJOR_VERSION" in defines:
        name = "openmpi" + ".".join(defines[f"OMPI_{part}_VERSION"] for part in ("MAJOR", "MINOR", "RELEASE"))
    else:
        name = "mpich" + defines.get("MPICH_VERSION", "-unknown")
    folders = dict.fromkeys(word[2:] for word in words if word.startswith("-L"))
    outside = [folder for folder in folders if not Path(folder).is_relative_to(prefix)]
    return {"MPICXX": wrapper, "MPI": name, "RPATH": ";".join([*outside, *RELATIVE_RPATH])}


def cuda_facts(environ: Mapping[str, str]) -> dict[str, str]:
    """Folder and version of the CUDA toolkit; {} where there is none.

    torch looks for a toolkit by itself and then has Horovod compile its CUDA files, in the cpu variant too; so the
    toolkit found has to be the same in both, and is named to both.
    """
    candidates = [environ.get(name, "") for name in ("CUDA_HOME", "CUDATOOLKIT_HOME", "CUDA_PATH")]
    nvcc = shutil.which("nvcc", path=environ.get("PATH"))
    if nvcc:
        # The nvcc on PATH may be a script elsewhere: let it tell its home, as CMake does.
        command = [nvcc, "--dryrun", "-v", "none.cu"]
        told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        candidates += re.findall(r"^#\$ TOP=(.+)$", told.stdout + told.stderr, re.M)
    for candidate in [*candidates, "/usr/local/cuda"]:
        header = Path(candidate) / "include/cuda.h"
        if candidate and header.exists():
            number = re.search(r"#define CUDA_VERSION (\d+)", header.read_text(errors="replace"))
            version = f"{int(number[1]) // 1000}.{int(number[1]) % 1000 // 10}" if number else "unknown"
            return {"CUDA_HOME": os.path.realpath(candidate), "CUDA": version}
    return {}


def nccl_facts(site_packages: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Header and library of NCCL: HOROVOD_NCCL_HOME, else torch's own (the one in the process), else NCCL_HOME."""
    asked, module = environ.get("HOROVOD_NCCL_HOME"), environ.get("NCCL_HOME")
    for home in [Path(candidate) for candidate in (asked, site_packages / "nvidia/nccl", module) if candidate]:
        header = home / "include/nccl.h"
        libraries = sorted(home.glob("lib*/libnccl.so*"))
        if header.exists() and libraries:
            parts = dict(re.findall(r"#define NCCL_(MAJOR|MINOR|PATCH)\s+(\d+)", header.read_text()))
            version = ".".join(parts[part] for part in ("MAJOR", "MINOR", "PATCH"))
            return {"NCCL": version, "NCCL_INCLUDE": str(header.parent), "NCCL_LIBRARY": str(libraries[0])}
    raise Missing("no NCCL: load its module (module load nccl) or set HOROVOD_NCCL_HOME to its folder")


if __name__ == "__main__":
    try:
        lines = facts(sys.argv[1], Path(sys.prefix), os.environ)
    except Missing as missing:
        sys.exit(f"build_horovod.sh: {missing}")
    print("\n".join(f"{name}={shlex.quote(value)}" for name, value in lines.items()))
