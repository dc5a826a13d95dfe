#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs in front of Python on every rank: rank.sh COMMAND [ARGUMENT ...]
# What a batch shell cannot do for its ranks: their limits, and what depends on the local rank.
#   HPC_DL_CPU_BIND    cores of each local rank, "0-7:8-15", for launchers that bind none themselves
#   HPC_DL_ONE_DEVICE  device of each local rank, "3:2:1:0": the rank then sees no other

ulimit -n "$(ulimit -Hn)" 2> /dev/null # oneCCL and NCCL hold a file descriptor per peer and buffer

if [[ ${SLURM_STEP_ID:-} ]]; then
    local_rank=$SLURM_LOCALID
else
    local_rank=${PALS_LOCAL_RANKID:-${PMI_LOCAL_RANK:-${OMPI_COMM_WORLD_LOCAL_RANK:-${MPI_LOCALRANKID:-${LOCAL_RANK:-0}}}}}
fi

if [[ ${HPC_DL_ONE_DEVICE:-} ]]; then
    IFS=: read -ra devices <<< "$HPC_DL_ONE_DEVICE"
    device=${devices[local_rank]:-$local_rank}
    export CUDA_VISIBLE_DEVICES=$device ZE_AFFINITY_MASK=$device
fi

if [[ ${HPC_DL_CPU_BIND:-} ]]; then
    IFS=: read -ra cores <<< "$HPC_DL_CPU_BIND"
    taskset -cp "${cores[local_rank]}" $$ > /dev/null ||
        echo "hpc_dl rank: cores ${cores[local_rank]:-(none listed)} cannot be had here; local rank $local_rank stays unbound" >&2
fi

exec "$@"
