# shellcheck shell=bash disable=SC2154  # nodes is set by the script that sources this
# Environment of jobs on Perlmutter, GPU nodes (NERSC). Written by `hpc-dl job environment --machine perlmutter` from
# the machine's record: change it there. A variable that is set already stays as it is.

# several nodes: against hangs of the memory registration cache. Source: NERSC dl tutorials SC23 to SC25; podman-hpc
# (2026-04).
if (( nodes >= 2 )); then
    default FI_MR_CACHE_MONITOR userfaultfd
fi

# HPE's NCCL settings: only where asked for (export HPC_DL_PROFILE=hpe-2026): NERSC's nccl module sets its own.
# NCCL_NET makes NCCL fail rather than fall back to sockets, about 24 times slower per NIC. Source: HewlettPackard
# shs-ccl-docs; hangs with NCCL_NET_GDR_LEVEL=PHB are reported from other machines (2026-04).
if (( nodes >= 2 )) && [[ ${HPC_DL_PROFILE:-} == hpe-2026 ]]; then
    default NCCL_NET 'AWS Libfabric'
    default NCCL_SOCKET_IFNAME hsn0,hsn1,hsn2,hsn3
    default NCCL_NET_GDR_LEVEL PHB
    default NCCL_CROSS_NIC 1
    default FI_CXI_DISABLE_HOST_REGISTER 1
    default FI_CXI_RDZV_GET_MIN 0
    default FI_CXI_RDZV_THRESHOLD 0
    default FI_CXI_RDZV_EAGER_SIZE 0
    default FI_CXI_DEFAULT_CQ_SIZE 131072
    default FI_CXI_DEFAULT_TX_SIZE 2048
fi

# always: MPI moves no GPU buffers here, and with GPU support on but the GTL library not linked it stops at start.
# Source: NERSC nccl-ofi-plugin tests; docs.nersc.gov, Cray MPICH; QMCPACK pull request 4699 (OMP_*) (2026).
unset OMP_PROC_BIND
unset OMP_PLACES
default PYTHONUNBUFFERED 1
default HDF5_USE_FILE_LOCKING FALSE
default CUDA_DEVICE_ORDER PCI_BUS_ID
default MPICH_GPU_SUPPORT_ENABLED 0
