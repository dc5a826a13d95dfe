#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds Horovod, unpatched, for the torch, MPI and Python of the active environment, and installs it there.
#
#   launch/build_horovod.sh [cpu|nccl] [--dry-run]
#
# cpu: MPI and Gloo. nccl: these, and NCCL for CUDA tensors. --dry-run only says what was found and where the wheel goes.
# PYTHON, MPICXX, CUDA_HOME, HOROVOD_NCCL_HOME, CXX override what is found by itself, CONSTRAINTS the project's pins. The
# wheel is kept in ${XDG_CACHE_HOME:-~/.cache}/hpc_dl, in a folder named by all it was built against; delete the folder to
# build again.
#
# Exit codes: 0 installed; 1 the build or the check after it failed; 2 torch, Python's headers, MPI, CUDA or NCCL is
# missing; 3 no C++ compiler that torch's headers can be compiled with. The last line on stderr is the reason.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
source "$here/progress.sh"
trap 'exit 130' INT # pip makes an ordinary error of it
variant=${1:-cpu}
constraints=${CONSTRAINTS:-$here/../constraints.txt}
python=$(command -v "${PYTHON:-python3}") || { echo "build_horovod.sh: no ${PYTHON:-python3} on PATH" >&2; exit 2; }

say() { echo "build_horovod.sh: $*"; }
stop() { say "${@:2}" >&2; exit "$1"; }

facts=$("$python" "$here/horovod/facts.py" "$variant") || exit 2
eval "$facts" # NAME=value lines, quoted by the program above
folder=${XDG_CACHE_HOME:-$HOME/.cache}/hpc_dl/$KEY

say "Python $("$python" -c 'import platform; print(platform.python_version())') ($python)"
say "torch $TORCH (C++$CXX_STANDARD), MPI $MPI ($MPICXX)${NCCL:+, NCCL $NCCL}${CUDA:+, CUDA toolkit $CUDA ($CUDA_HOME)}"
say "wheel: $folder"
if [ "$variant" = nccl ] && [ "${CUDA%%.*}" != "${TORCH_CUDA%%.*}" ]; then
    say "note: the toolkit is CUDA ${CUDA}, torch is built for ${TORCH_CUDA}: good to compile, not proven to run on a GPU"
fi
[ "${2:-}" != --dry-run ] || exit 0

# Prints the C++ compiler, or fails where there is none that knows the standard.
compiler() {
    local candidate
    for candidate in ${CXX:-g++ c++ clang++}; do
        if echo 'int main() {}' | "$candidate" "-std=c++$CXX_STANDARD" -fsyntax-only -x c++ - 2>/dev/null; then
            command -v "$candidate" && return
        fi
    done
    return 1
}

# The C compiler beside a C++ compiler, which CMake might not find by itself (clang-14); gloo's project asks for one.
c_compiler() {
    local cxx
    cxx=$(basename "$1")
    cxx=${cxx/clang++/clang} cxx=${cxx/g++/gcc} cxx=${cxx/c++/cc}
    command -v "$(dirname "$1")/$cxx" || command -v cc || true
}

# Builds the wheel in a folder of its own and moves it to the cache when it is whole.
build() {
    local work
    work=$(mktemp -d)
    # shellcheck disable=SC2064 # the folder is known now, and gone from the scope later
    trap "rm -rf '$work'" EXIT

    # Build tools in an environment of their own, which sees torch: nothing in the user's environment changes.
    mkdir -p "$folder"
    "$python" -m venv "$work/tools" || stop 1 "$python -m venv fails: install what it lacks (Debian: python3-venv)"
    with_progress "build_horovod.sh: build tools" "$folder/tools.log" "$work/tools/bin/python" -m pip install \
        --no-compile --progress-bar off --constraint "$here/../constraints.txt" \
        setuptools wheel cmake cffi packaging cloudpickle psutil pyyaml ||
        stop 1 "pip could not install the build tools: $(tail -n 1 "$folder/tools.log") (all of it: $folder/tools.log)"
    echo "$SITE_PACKAGES" \
        >"$("$work/tools/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/torch.pth"

    local settings=(
        HOROVOD_WITH_PYTORCH=1 HOROVOD_WITHOUT_TENSORFLOW=1 HOROVOD_WITHOUT_MXNET=1
        HOROVOD_WITH_MPI=1 HOROVOD_WITH_GLOO=1
        HOROVOD_CMAKE="$here/horovod/cmake" HPC_DL_CMAKE="$work/tools/bin/cmake"
        HPC_DL_CXX_STANDARD="$CXX_STANDARD" HPC_DL_RPATH="$RPATH${CUDA:+;$CUDA_HOME/lib64}"
        HPC_DL_CUDA="${CUDA:-}"
        CXX="$1" CC="${CC:-$(c_compiler "$1")}" MAKEFLAGS="-j$(cores)" PATH="$work/tools/bin:$(dirname "$MPICXX"):$PATH"
    )
    if [ -n "${CUDA:-}" ]; then
        settings+=(CUDA_HOME="$CUDA_HOME" CUDAToolkit_ROOT="$CUDA_HOME" HOROVOD_CUDA_HOME="$CUDA_HOME")
        # Kernels for the A100, and PTX that newer devices compile for themselves; all devices would take minutes more.
        settings+=(HOROVOD_BUILD_CUDA_CC_LIST="${HOROVOD_BUILD_CUDA_CC_LIST:-80}")
    fi
    if [ "$variant" = nccl ]; then
        # NCCL's wheel has libnccl.so.2 only; the linker looks for libnccl.so.
        mkdir -p "$work/nccl/lib"
        ln -s "$NCCL_INCLUDE" "$work/nccl/include"
        ln -s "$NCCL_LIBRARY" "$work/nccl/lib/libnccl.so"
        settings+=(HOROVOD_GPU_OPERATIONS=NCCL HOROVOD_NCCL_HOME="$work/nccl" HOROVOD_NCCL_LINK=SHARED)
    fi

    say "building, one to three minutes on two cores; what happens is in $folder/build.log"
    # pip's own cache does not know which torch or MPI a wheel was built for, hence --no-cache-dir.
    with_progress "build_horovod.sh: building" "$folder/build.log" env "${settings[@]}" "$work/tools/bin/python" -m pip \
        wheel --no-build-isolation --no-deps --no-cache-dir --no-binary horovod --verbose --wheel-dir "$work/wheel" \
        "horovod==$HOROVOD" || stop 1 "the build failed: $(first_error "$folder/build.log") (all of it: $folder/build.log)"
    mv "$work"/wheel/horovod-*.whl "$folder"
}

# The first error of a compiler, else of CMake (which says on the next line what it is), else of pip.
first_error() {
    local pattern
    for pattern in ': (fatal )?error: ' 'CMake Error' 'Could ?N[Oo][Tt] find' '[Ee]rror'; do
        grep -m 1 -A "$([ "$pattern" = 'CMake Error' ] && echo 1 || echo 0)" -E "$pattern" "$1" | tr -s '\n ' ' ' |
            sed -E 's|^ *(/[^ :]*/)?||; s| $||' && return
    done
    tail -n 1 "$1"
}

cores() { nproc 2>/dev/null || getconf _NPROCESSORS_ONLN; }

wheel() { find "$folder" -name 'horovod-*.whl' 2>/dev/null | head -n 1; }

if [ -z "$(wheel)" ]; then
    cxx=$(compiler) || stop 3 "no C++$CXX_STANDARD compiler (looked for ${CXX:-g++ c++ clang++}):" \
        "install one (Debian: apt install g++; on a cluster: a module such as gcc or PrgEnv-gnu) and run this again"
    say "compiler: $cxx ($("$cxx" --version | head -n 1))"
    build "$cxx"
fi
"$python" -m pip install -qq --constraint "$constraints" "$(wheel)"
"$python" -m pip install -qq --force-reinstall --no-deps "$(wheel)"
"$python" "$here/horovod/verify.py" "$variant" || stop 1 "the wheel does not load: delete $folder and run this again"
