#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes an environment with this project in it, pinned; where nothing changed since the last time, it ends at once.
#
#   launch/setup.sh [main|ipex|nccl]
#
# main: .venv, to train, report and develop. ipex: .venv-ipex, Intel's extension for PyTorch and the torch it needs.
# nccl: a CUDA build of torch under the user's cache, for the compile check of Horovod's NCCL variant; no project in it.
# Needs Python 3.10 or newer, no root. PYTHON names one; where that Python has a torch, main uses it and installs none.
# HOROVOD=yes: end where Horovod cannot be built (what CI wants); no: leave it out; by default the set-up goes on without.
set -euo pipefail

cd "$(dirname "$0")/.."
source launch/progress.sh
name=${1:-main}
horovod=${HOROVOD:-${CI:+yes}}
case $name in
    main) folder=.venv constraints=constraints.txt variant=cpu packages=(-e '.[dev]') ;;
    ipex) folder=.venv-ipex constraints=constraints-ipex.txt variant=cpu packages=(-e '.[train,mpi,data,report,test,ipex]') ;;
    nccl) folder=${XDG_CACHE_HOME:-$HOME/.cache}/hpc_dl/venv-nccl constraints=constraints-ipex.txt variant=nccl packages=(numpy) horovod=yes ;;
    *) echo "setup.sh: '$name' is no environment: give main, ipex or nccl" >&2; exit 2 ;;
esac
without=$folder/without-horovod # why there is none, in two lines

say() { echo "setup.sh: $*"; }

# What the environment was made from. The stamp is written last, so a set-up that was interrupted is done again.
stamp=$folder/made-from
made_from() {
    { echo "$PWD $name ${horovod:-if possible}"; command -v g++ c++ clang++ "${CXX:-c++}" "${PYTHON:-python3}"
      cat "$constraints" setup.cfg pyproject.toml launch/*.py launch/{setup,build_horovod}.sh launch/horovod/*; } 2>&1 | cksum
}
unchanged() { [ -e "$stamp" ] && [ "$(cat "$stamp")" = "$(made_from)" ]; }

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11 python3.10}; do
        if "$candidate" -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            command -v "$candidate" && return
        fi
    done
    return 1
}

# A new environment; it sees the packages beside a torch that is there already.
new_environment() {
    local python inherited
    python=$(find_python) || {
        say "no Python 3.10 or newer with venv and pip: install one (Debian: apt install python3-venv) or set PYTHON" >&2
        exit 2
    }
    say "new environment in $folder with $("$python" --version)"
    mkdir -p "$(dirname "$folder")"
    "$python" -m venv --clear "$folder"
    [ "$name" = main ] || return 0
    inherited=$("$python" launch/inherited.py paths)
    [ -z "$inherited" ] || echo "$inherited" >"$(packages_folder)/inherited.pth"
}

packages_folder() { "$folder/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; }

install() { # LABEL ARGUMENT...
    with_progress "setup.sh: $1" "$folder/pip.log" \
        "$folder/bin/python" -m pip install --progress-bar off --constraint "$constraints" "${@:2}" || {
        grep -E '^(ERROR|error)' "$folder/pip.log" >&2 || tail -n 5 "$folder/pip.log" >&2
        say "pip failed; all it said is in $folder/pip.log" >&2
        exit 1
    }
}

install_torch() {
    local has='import importlib.util, sys; sys.exit(importlib.util.find_spec("torch") is None)'
    [ "$name$(uname -s)" != mainLinux ] || "$folder/bin/python" -c "$has" || say "torch is next: pip takes its CUDA build," \
        "2.6 GB to download and 6 GB on disk, where it is not told of a CPU build or of a torch that is there (docs/install.md)"
    if [ -t 1 ]; then # these are the long downloads: with pip's own bars
        "$folder/bin/python" -m pip install --constraint "$constraints" torch setuptools
    else
        install torch torch setuptools
    fi
}

build_horovod() {
    rm -f "$without"
    if [ "$horovod" = no ]; then
        say "no Horovod, as HOROVOD=no asks: runs of several ranks use engine torch"
    elif ! PYTHON=$folder/bin/python launch/build_horovod.sh "$variant" 2>"$folder/horovod.err"; then
        local why
        why="no Horovod: $(tail -n 1 "$folder/horovod.err" | sed 's/^build_horovod.sh: //')"
        [ "$horovod" != yes ] || { cat "$folder/horovod.err"; say "$why"; say "to go on without it: HOROVOD=no make ..."; exit 1; } >&2
        { say "$why"; say "runs of several ranks use engine torch, with the same numbers; to try again: HOROVOD=yes make setup"; } >"$without"
        cat "$without"
    fi
}

if unchanged; then
    # What was missing may be there by now, and looking costs nothing; a build that failed would take minutes again.
    if grep -qs 'the build failed' "$without"; then cat "$without"; elif [ -e "$without" ]; then build_horovod; fi
    exit 0
fi
rm -f "$stamp"
"$folder/bin/python" -m pip --version >/dev/null 2>&1 || new_environment

if [ -s "$(packages_folder)/inherited.pth" ]; then
    "$folder/bin/python" launch/inherited.py constraints "$constraints" >"$folder/constraints.txt"
    constraints=$folder/constraints.txt
    say "$(head -n 1 "$constraints") is there already and stays; what comes with it is not pinned"
    # An mpi4py of another MPI than mpiexec's would make N worlds of one rank.
    install MPI --ignore-installed --no-deps mpich mpi4py
else
    # torch first and by itself, so that no other package's wish decides which torch comes.
    install_torch
fi
install packages --no-build-isolation mpich setuptools "${packages[@]}"

build_horovod
made_from >"$stamp"
