#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes an environment with this project in it, pinned; where nothing changed since the last time, it ends at once.
#
#   launch/setup.sh [main|ipex|nccl]
#
# main: .venv, to train, report and develop. ipex: .venv-ipex, Intel's extension for PyTorch and the torch it needs.
# nccl: a CUDA build of torch under the user's cache, for the compile check of Horovod's NCCL variant; no project in it.
# Needs Python 3.10 or newer (PYTHON names one), no root. HOROVOD=no leaves Horovod out.
set -euo pipefail

cd "$(dirname "$0")/.."
name=${1:-main}
horovod=${HOROVOD:-yes}
case $name in
    main) folder=.venv constraints=constraints.txt variant=cpu packages=(-e '.[dev]') ;;
    ipex) folder=.venv-ipex constraints=constraints-ipex.txt variant=cpu packages=(-e '.[train,mpi,data,report,test,ipex]') ;;
    nccl) folder=${XDG_CACHE_HOME:-$HOME/.cache}/hpc_dl/venv-nccl constraints=constraints-ipex.txt variant=nccl packages=(numpy) ;;
    *) echo "setup.sh: '$name' is no environment: give main, ipex or nccl" >&2; exit 2 ;;
esac

# What the environment was made from. The stamp is written last, so a set-up that was interrupted is done again.
stamp=$folder/made-from
made_from() {
    { echo "$PWD $name $horovod"; command -v g++ c++ clang++ "${PYTHON:-python3}"
      cat "$constraints" setup.cfg pyproject.toml launch/setup.sh launch/build_horovod.sh launch/horovod/*; } 2>&1 | cksum
}
if [ -e "$stamp" ] && [ "$(cat "$stamp")" = "$(made_from)" ]; then exit 0; fi
rm -f "$stamp"

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.10}; do
        if "$candidate" -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            command -v "$candidate" && return
        fi
    done
    return 1
}

if ! "$folder/bin/python" -m pip --version >/dev/null 2>&1; then
    python=$(find_python) || {
        echo "setup.sh: no Python 3.10 or newer with pip: install one (Debian: apt install python3-venv) or set PYTHON" >&2
        exit 2
    }
    echo "setup.sh: new environment in $folder with $("$python" --version)"
    mkdir -p "$(dirname "$folder")"
    "$python" -m venv --clear "$folder"
fi
install() { "$folder/bin/python" -m pip install -qq --constraint "$constraints" "$@"; }

echo "setup.sh: installing the packages that $constraints pins"
# torch first and by itself, so that no other package's wish decides which torch comes.
install torch setuptools
install --no-build-isolation mpich "${packages[@]}"
if [ "$horovod" = yes ]; then
    PYTHON=$folder/bin/python launch/build_horovod.sh "$variant" || case $? in
        3) echo "setup.sh: no Horovod without a compiler: runs of several ranks use torch.distributed" ;;
        *) echo "setup.sh: Horovod is missing; to go on without it: HOROVOD=no make ..." >&2; exit 1 ;;
    esac
fi
made_from >"$stamp"
