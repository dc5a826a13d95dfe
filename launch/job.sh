# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Functions of job scripts: they check what a job did, and end it with one sentence where it went wrong.

say() { echo "hpc_dl job: $*"; }

stop() {
    say "$*" >&2
    exit 1
}

default() { # NAME VALUE: export the variable unless it is set already
    [[ -v $1 ]] || export "$1=$2"
}

load_modules() { # NAME...: module load, and see that it did: a module that is missing may load nothing and say nothing
    local name loaded python
    [[ $(type -t module) ]] || stop "there is no module command here: the script's first line must be #!/bin/bash -l"
    for name in "$@"; do
        loaded=${LOADEDMODULES:-} python=$(command -v python)
        module load "$name" || stop "module load $name failed: module avail ${name%%/*} shows what there is"
        # An alias, or a part of a version as in pytorch/2.8, is listed by the full name of what it stands for.
        [[ ${LOADEDMODULES:-} == "$loaded" && $(command -v python) == "$python" ]] || continue
        case ":$loaded:" in *":$name:"* | *":$name/"* | *":$name."*) continue ;; esac
        module is-loaded "$name" 2> /dev/null ||
            stop "module load $name loaded nothing: module avail ${name%%/*} shows what there is"
    done
}

activate_environment() { # FOLDER or nothing: a virtual environment on top of the modules
    [[ $1 ]] || return 0
    [[ -f $1/bin/activate ]] || stop "there is no Python environment in $1 (no bin/activate)"
    # shellcheck disable=SC1091
    source "$1/bin/activate" || stop "the Python environment in $1 could not be activated"
}

check_python() { # the Python on PATH finds torch and hpc_dl; nothing is imported yet
    local python missing
    python=$(command -v python) || stop "there is no python on PATH: name the modules or HPC_DL_VENV that bring it"
    missing=$(python -c 'from importlib.util import find_spec as find
print(*(name for name in ("torch", "hpc_dl") if find(name) is None))') || stop "$python does not run"
    case $python in /usr/bin/* | /bin/*) python="the system's $python: neither module nor environment brought its own" ;; esac
    [[ -z $missing ]] || stop "this Python has no ${missing/ / and no }: $python"
    say "Python is $python"
}

check_program() { # NAME: what the ranks are to run is there
    local program
    program=$(type -P -- "$1") || stop "there is no program $1 here: name its path, or the modules or HPC_DL_VENV that bring it"
    say "the ranks run $program"
}

check_nodes() { # GRANTED HOST...: as many hosts as the scheduler granted
    local granted=$1
    shift
    (($# > 0)) || stop "the scheduler gave no list of nodes"
    (($# == ${granted:-$#})) || stop "the node list has $# hosts, the scheduler granted $granted: $*"
    say "$# nodes: ${*:1:8}${9:+ ...}"
}

check_devices() { # WANTED FOUND PATTERN: enough devices on this node; fewer are right only where it is another machine's
    local host=${SLURMD_NODENAME:-$(hostname -s)}
    (($2 < $1)) || return 0
    # shellcheck disable=SC2053  # the pattern is meant as one
    [[ $host != $3 ]] || stop "node $host shows $2 devices, $1 are needed: leave the node out and tell the site"
    say "node $host shows $2 devices, $1 are needed; it is none of this machine's nodes: this is a rehearsal"
}

count_files() { # PATTERN: how many files match
    compgen -G "$1" | wc -l
}

pbs_hosts() { # each host of the job once: PBS repeats a host for each of its chunk's MPI processes
    [[ -r ${PBS_NODEFILE:-} ]] || stop "PBS gave no node file: PBS_NODEFILE is '${PBS_NODEFILE:-}'"
    awk 'NF { name = $1; if (name !~ /^[0-9.]+$/) sub(/\..*/, "", name); if (!seen[name]++) print name }' "$PBS_NODEFILE"
}

address_of_this_node() { # SUFFIX: the name by which other nodes reach this one, where rank 0 is going to run
    local name
    for name in "$(hostname -s)$1" "$(hostname)" "$(hostname -s)"; do
        getent hosts "$name" > /dev/null && break
    done
    echo "$name"
}

port_of_job() { # NUMBER: the same port for all ranks, another one for each job; below those Linux gives out itself
    local number=${1//[!0-9]/}
    echo $((10000 + 10#${number:-0} % 20000))
}

slurm_job_end() { # when Slurm is going to end this job, in seconds since 1970; nothing where it does not say
    local end
    end=$(scontrol show job -o "$SLURM_JOB_ID" 2> /dev/null | grep -o ' EndTime=[^ ]*') &&
        date -d "${end#*=}" +%s 2> /dev/null
}

pbs_job_end() { # [HH:MM:SS]: the same of PBS, which counts from the start of this shell; the limit where qstat says none
    local limit qstat
    qstat=$(command -v qstat || { source /etc/pbs.conf && echo "$PBS_EXEC/bin/qstat"; } 2> /dev/null)
    limit=$("${qstat:-qstat}" -f "${PBS_JOBID:-}" 2> /dev/null | sed -n 's/^ *Resource_List.walltime = //p')
    [[ ${limit:-${1:-}} =~ ^([0-9]+):([0-9]+):([0-9]+)$ ]] || return
    echo $(($(date +%s) - SECONDS + 10#${BASH_REMATCH[1]} * 3600 + 10#${BASH_REMATCH[2]} * 60 + 10#${BASH_REMATCH[3]}))
}

match_mpi_to_slurm() { # where the site names no MPI type, ranks would not find each other: MPICH speaks pmi2
    if scontrol show config 2> /dev/null | grep -q '^MpiDefault *= *none'; then
        default SLURM_MPI_TYPE pmi2
    fi
}

check_nccl_plugin() { # NODES: without its network plugin NCCL falls back to sockets, and says so nowhere but in its own log
    local folder folders
    (($1 > 1)) || return 0
    IFS=: read -ra folders <<< "${LD_LIBRARY_PATH:-}"
    for folder in "${folders[@]}"; do
        [[ $(count_files "$folder/libnccl-net*.so*") == 0 ]] || return 0
    done
    say "no libnccl-net.so on LD_LIBRARY_PATH: NCCL may use slow sockets between nodes (docs/machines)"
}

how_it_ended() { # finished or stopped, as the last line of the run's log says; nothing where it has no end
    tail -n 1 "$HPC_DL_RUN_FOLDER/log.jsonl" 2> /dev/null |
        sed -n 's/^{"kind":"end".*"reason":"\([a-z]*\)".*/\1/p'
}

go_on() { # COMMAND ...: start this job again where there is a command for it, and where that is worth its start
    (($# > 0)) || { say "to go on, submit it again with the same run folder; a recipe with --checkpoint.resume auto" && exit 0; }
    tail -n 1 "$HPC_DL_RUN_FOLDER/log.jsonl" |
        sed -n 's/.*"seconds":\([0-9.e+-]*\),"startup_seconds":\([0-9.e+-]*\),.*/\1 \2/p' |
        awk '$1 > $2 { worth = 1 } END { exit !worth }' ||
        stop "training was shorter than its start: not started again; ask for more minutes"
    say "it goes on: $*"
    "$@"
    exit # at once: Slurm ends this shell
}

leave_finished() { # a job that was to go on with a training which the job before has finished has nothing to do
    [[ $(how_it_ended) == finished ]] || return 0
    say "finished already: $HPC_DL_RUN_FOLDER"
    exit 0
}

end_training() { # STATUS [COMMAND ...]: report a training that ended, explain one that did not, and leave with its status
    if (($1 != 0)); then
        say "training ended with status $1. The first message of a rank in this log is the cause; 'hpc-dl doctor LOG' reads it" >&2
        exit "$1"
    fi
    if [[ $(how_it_ended) == stopped ]]; then
        say "stopped before its end, with a checkpoint: $HPC_DL_RUN_FOLDER"
        go_on "${@:2}"
    fi
    if [[ ! -f $HPC_DL_RUN_FOLDER/log.jsonl ]]; then
        say "no report: the ranks left no log.jsonl in $HPC_DL_RUN_FOLDER"
        say "finished: $HPC_DL_RUN_FOLDER"
        exit 0
    fi
    python -m hpc_dl.cli report "$HPC_DL_RUN_FOLDER" --output "$HPC_DL_RUN_FOLDER/report" ||
        say "training finished, but its report failed; repeat: hpc-dl report $HPC_DL_RUN_FOLDER" >&2
    say "finished: $HPC_DL_RUN_FOLDER"
    exit 0
}
