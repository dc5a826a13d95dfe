#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes an environment with this project in it, pinned; where nothing changed since the last time, it ends at once.
#
#   launch/setup.sh [main|ipex|nccl]
#
# main: .venv, to train, report and develop. ipex: .venv-ipex, Intel's extension for PyTorch and the torch it needs.
# nccl: a CUDA build of torch under the user's cache, for the compile check of Horovod's NCCL variant; no project in it.
# Needs Python 3.10 or newer, no root. PYTHON names one; where that Python has a torch, main uses it and installs none.
# HOROVOD=yes: end where Horovod cannot be built (as in CI); no: leave it out; by default the set-up goes on without.
set -euo pipefail

cd "$(dirname "$0")/.."
source launch/progress.sh
trap 'exit 130' INT # pip makes an ordinary error of it
name=${1:-main}
horovod=${HOROVOD:-}
case ${CI:-} in '' | 0 | false) ;; *) horovod=${horovod:-yes} ;; esac
case $name in
    main) folder=.venv constraints=constraints.txt variant=cpu packages=(-e '.[dev]') ;;
    ipex) folder=.venv-ipex constraints=constraints-ipex.txt variant=cpu packages=(-e '.[train,mpi,data,report,test,ipex]') ;;
    nccl) folder=${XDG_CACHE_HOME:-$HOME/.cache}/hpc_dl/venv-nccl constraints=constraints-ipex.txt variant=nccl packages=(numpy) horovod=yes ;;
    *) echo "setup.sh: '$name' is no environment: give main, ipex or nccl" >&2; exit 2 ;;
esac
pins=$constraints
without=$folder/without-horovod # why there is none, in two lines

say() { echo "setup.sh: $*"; }

packages_folder() { "$folder/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; }

# The pins of what a torch that is there does not bring, its version first; nothing where there is none.
inherited() { "$folder/bin/python" launch/inherited.py constraints "$constraints"; }

# What the environment was made from. The stamp is written last, so a set-up that was interrupted is done again.
stamp=$folder/made-from
made_from() {
    { echo "$PWD $name"; command -v g++ c++ clang++ "${CXX:-c++}" || true
      cat "$folder/pyvenv.cfg" "$folder/made-with" "$constraints" setup.cfg pyproject.toml \
          launch/*.py launch/{setup,build_horovod}.sh launch/horovod/* || true
      [ ! -e "$folder/inherits" ] || inherited | sed -n 1p; } 2>&1 | cksum
}
unchanged() { [ -e "$stamp" ] && [ "$(cat "$stamp")" = "$(made_from)" ] && is_of_python; }

# The Python to make the environment with: the one that PYTHON names, or the first that will do.
find_python() {
    local candidate candidates=(python3 python3.14 python3.13 python3.12 python3.11 python3.10)
    [ -z "${PYTHON:-}" ] || candidates=("$PYTHON")
    for candidate in "${candidates[@]}"; do
        if "$candidate" -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            command -v "$candidate" && return
        fi
    done
    say "no Python 3.10 or newer with venv and pip${PYTHON:+ at PYTHON=$PYTHON}: install one (Debian: apt install" \
        "python3-venv) or set PYTHON" >&2
    exit 2
}

# Is the environment of the Python that PYTHON names, where it names one?
is_of_python() {
    local asked
    [ -n "${PYTHON:-}" ] || return 0
    asked=$(find_python) || exit 2
    [[ $asked == "$PWD/$folder/"* || $asked == "$folder/"* || $asked == "$(cat "$folder/made-with" 2>/dev/null)" ]]
}

# Is there an environment that can be gone on with?
is_usable() {
    "$folder/bin/python" -m pip --version >/dev/null 2>&1 || return 1
    [ ! -e "$folder/inherits" ] || [ -n "$(inherited)" ] || return 1 # the torch that it saw is gone
    is_of_python
}

# A new environment; it sees the packages beside a torch that is there already.
new_environment() {
    local python paths
    python=$(find_python) || exit 2
    say "new environment in $folder with $("$python" --version) ($python)"
    mkdir -p "$(dirname "$folder")"
    "$python" -m venv --clear "$folder"
    echo "$python" >"$folder/made-with"
    [ "$name" = main ] || return 0
    paths=$("$python" launch/inherited.py paths)
    [ -z "$paths" ] || echo "$paths" | tee "$folder/inherits" >"$(packages_folder)/inherited.pth"
}

install() { # LABEL ARGUMENT...
    with_progress "setup.sh: $1" "$folder/pip.log" \
        "$folder/bin/python" -m pip install --no-compile --progress-bar off --constraint "$pins" "${@:2}" || {
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
        "$folder/bin/python" -m pip install --no-compile --constraint "$pins" torch setuptools
    else
        install torch torch setuptools
    fi
}

# Python's byte code, beside what leaves a core idle; pip would do it alone. Not every file is meant for this Python.
compile_packages() { "$folder/bin/python" -m compileall -q -x '/tests?/' "$(packages_folder)" >/dev/null 2>&1 || true; }

# Leaves the reason in $without where there is no Horovod. One of before goes too: it may not fit any more.
build_horovod() {
    local why goal=setup
    rm -f "$without"
    if [ "$horovod" = no ]; then
        say "no Horovod, as HOROVOD=no asks: runs of several ranks use engine torch" | tee "$without"
    elif ! PYTHON=$folder/bin/python CONSTRAINTS=$(realpath "$pins") \
        launch/build_horovod.sh "$variant" 2>"$folder/horovod.err"; then
        why="no Horovod: $(tail -n 1 "$folder/horovod.err" | sed 's/^build_horovod.sh: //')"
        [[ $why == *"(all of it: "* ]] || why+=" (all of it: $folder/horovod.err)"
        [ "$horovod" != yes ] || { cat "$folder/horovod.err"; say "$why"; exit 1; } >&2
        [ "$name" = main ] || goal=test-ipex
        { say "$why"; say "runs of several ranks use engine torch, with the same numbers; to try again: HOROVOD=yes make $goal"; } |
            tee "$without"
    fi
    [ ! -e "$without" ] || "$folder/bin/python" -m pip uninstall -qq --yes horovod 2>/dev/null || true
}

if unchanged; then
    # What was missing may be there by now, and looking costs little; a build that failed would take minutes again.
    if [ ! -e "$without" ]; then
        [ "$horovod" != no ] || build_horovod
    elif [ -z "$horovod" ] && grep -q 'the build failed' "$without"; then
        cat "$without"
    else
        build_horovod
    fi
    exit 0
fi
rm -f "$stamp"
is_usable || new_environment

if [ -e "$folder/inherits" ]; then
    pins=$folder/constraints.txt
    inherited >"$pins"
    say "$(head -n 1 "$pins") is there already and stays; what comes with it is not pinned"
    # An mpi4py of another MPI than mpiexec's would make N worlds of one rank.
    install MPI --force-reinstall --no-deps mpich mpi4py setuptools
    "$folder/bin/python" -c 'import importlib.util as u, sys; sys.exit(not u.find_spec("mpi4py").origin.startswith(sys.prefix))' ||
        say "PYTHONPATH brings an mpi4py that comes before $folder's: without it ranks may not find each other"
else
    # torch first and by itself, so that no other package's wish decides which torch comes.
    install_torch
fi
compile_packages &
install packages --no-build-isolation mpich setuptools "${packages[@]}"
wait
compile_packages &
build_horovod
wait
made_from >"$stamp"
