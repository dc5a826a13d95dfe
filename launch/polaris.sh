# shellcheck shell=bash disable=SC2154  # nodes is set by the script that sources this
# Environment of jobs on Polaris (ALCF). Written by `hpc-dl job environment --machine polaris` from the machine's
# record: change it there. A variable that is set already stays as it is.

# NCCL over Slingshot: 2 to 3 times faster on some workloads; none of it is set where the plugin's folder is missing.
# If NCCL hangs, leave the four NCCL_* out. Source: ALCF user guides, docs/polaris libraries/nccl.md (the path may be
# dated after August 2026) (2026-08-19).
if (( nodes >= 2 )) && [[ -d /soft/libraries/aws-ofi-nccl/v1.9.1-aws/lib ]]; then
    default NCCL_NET 'AWS Libfabric'
    default NCCL_NET_GDR_LEVEL PHB
    default NCCL_CROSS_NIC 1
    default NCCL_COLLNET_ENABLE 1
    default FI_CXI_DISABLE_HOST_REGISTER 1
    default FI_MR_CACHE_MONITOR userfaultfd
    default FI_CXI_DEFAULT_CQ_SIZE 131072
    export LD_LIBRARY_PATH=/soft/libraries/aws-ofi-nccl/v1.9.1-aws/lib:/soft/libraries/hwloc/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
fi

# always: MPI moves no GPU buffers here, and with GPU support on but the GTL library not linked it stops at start.
# Source: ALCF user guides, docs/polaris python.md (2026-08-19).
unset OMP_PROC_BIND
unset OMP_PLACES
default PYTHONUNBUFFERED 1
default HDF5_USE_FILE_LOCKING FALSE
default CUDA_DEVICE_ORDER PCI_BUS_ID
default MPICH_GPU_SUPPORT_ENABLED 0
export TMPDIR=/tmp
