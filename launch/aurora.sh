# shellcheck shell=bash disable=SC2154  # nodes is set by the script that sources this
# Environment of jobs on Aurora (ALCF). Written by `hpc-dl job environment --machine aurora` from the machine's
# record: change it there. A variable that is set already stays as it is.

# large: 256 is our own threshold, prod's smallest job. Rabenseifner failed with 2025.2.0 and is recommended again
# since 2025.3.1. Source: ALCF user guides, oneCCL.md, system-updates.md (2026-08-19).
if (( nodes >= 256 )); then
    unset MPIR_CVAR_CH4_COLL_SELECTION_TUNING_JSON_FILE
    unset MPIR_CVAR_COLL_SELECTION_TUNING_JSON_FILE
    unset MPIR_CVAR_CH4_POSIX_COLL_SELECTION_TUNING_JSON_FILE
    default FI_CXI_DEFAULT_CQ_SIZE 1048576
    default FI_CXI_CQ_FILL_PERCENT 30
    default FI_CXI_RX_MATCH_MODE hybrid
    default CCL_ALLREDUCE topo
    default CCL_ALLREDUCE_SCALEOUT 'direct:0-1048576;rabenseifner:1048577-max'
    default CCL_BCAST double_tree
    default CCL_CONFIGURATION cpu_gpu_dpcpp
    default CCL_KVS_CONNECTION_TIMEOUT 600
    default CCL_KVS_USE_MPI_RANKS 1
    default CCL_ZE_CACHE_OPEN_IPC_HANDLES_THRESHOLD 1024
    default PALS_PING_PERIOD 240
    default PALS_RPC_TIMEOUT 240
fi

# several nodes: room for unexpected messages: Cassini Event Queue overflow otherwise. Source: ALCF user guides,
# oneCCL.md (tested to 1024 nodes), aurora/known-issues.md (2026-08-19).
if (( nodes >= 2 )); then
    default FI_MR_CACHE_MONITOR userfaultfd
    default FI_CXI_DEFAULT_CQ_SIZE 131072
    default FI_CXI_OFLOW_BUF_SIZE 8388608
    default FI_CXI_CQ_FILL_PERCENT 20
fi

# always: a tile is a device; oneCCL finds its ranks through PMIx and MPI; OP_SYNC and SYNC_COLL against hangs
# (2026.1.0 leaves both at 0). CCL_KVS_MODE=mpi needs MPI up before the process group: hpc_dl starts it first. Source:
# ALCF user guides, oneCCL.md, pytorch.md, known-issues.md; pmodels/mpich issue 7083 (PALS_PMI) (2026-09).
unset OMP_PROC_BIND
unset OMP_PLACES
unset ZE_AFFINITY_MASK
default PYTHONUNBUFFERED 1
default HDF5_USE_FILE_LOCKING FALSE
default ZE_FLAT_DEVICE_HIERARCHY FLAT
default ZES_ENABLE_SYSMAN 1
default PALS_PMI pmix
default CCL_PROCESS_LAUNCHER pmix
default CCL_ATL_TRANSPORT mpi
default CCL_KVS_MODE mpi
default CCL_OP_SYNC 1
default CCL_ATL_SYNC_COLL 1
export TMPDIR=/tmp
