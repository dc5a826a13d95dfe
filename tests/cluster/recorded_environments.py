# SPDX-License-Identifier: Apache-2.0
"""Environments of ranks as launchers make them, with what surrounds them on the machine, and the record they mean.

Horovod, torchrun, Hydra and Open MPI: captured from MPICH 5.0.2, Open MPI 4.1.4 and 5.0.11, Horovod 0.28.1 and torch
2.13. Slurm: manual page srun(1) of 22.05 and trials with Debian's 22.05.8; cray_shasta: Slurm's mpi_cray_shasta.c.
PALS on Aurora and Polaris: ALCF's user guides (running-jobs-aurora.md, polaris pytorch.md).
"""

from __future__ import annotations

from hpc_dl.cluster.rank import RankRecord

SHELL = {"HOME": "/root", "PATH": "/usr/bin:/bin", "SHELL": "/bin/bash", "LANG": "C.UTF-8", "OMP_NUM_THREADS": "8"}
PERLMUTTER_JOB = SHELL | {
    "NERSC_HOST": "perlmutter",
    "SLURM_JOB_ID": "31415926",
    "SLURM_JOBID": "31415926",
    "SLURM_JOB_NODELIST": "nid[001040-001041]",
    "SLURM_NODELIST": "nid[001040-001041]",
    "SLURM_JOB_NUM_NODES": "2",
    "SLURM_NNODES": "2",
    "SLURM_NTASKS": "8",
    "SLURM_NPROCS": "8",
    "SLURM_NTASKS_PER_NODE": "4",
    "SLURM_TASKS_PER_NODE": "4(x2)",
    "SLURM_CPUS_PER_TASK": "32",
    "SLURM_GPUS_PER_NODE": "4",
    "SLURM_JOB_QOS": "regular_1",
    "MPICH_GPU_SUPPORT_ENABLED": "0",
}
BATCH_SHELL = PERLMUTTER_JOB | {
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
    "SLURM_GTIDS": "0",
    "SLURMD_NODENAME": "nid001040",
    "ENVIRONMENT": "BATCH",
}
PBS_JOB = SHELL | {
    "PBS_JOBID": "8123456.aurora-pbs-0001.hostmgmt.cm.aurora.alcf.anl.gov",
    "PBS_ENVIRONMENT": "PBS_BATCH",
    "PBS_NODEFILE": "/var/spool/pbs/aux/8123456.aurora-pbs-0001.hostmgmt.cm.aurora.alcf.anl.gov",
    "PBS_O_WORKDIR": "/lus/flare/projects/p/u",
    "PBS_QUEUE": "debug",
    "NCPUS": "208",
}


def slurm_task(rank: int, size: int, local_rank: int, node: int, per_node: str, job: dict[str, str] = BATCH_SHELL):
    """A task of srun: what it sets over the variables of the shell it was called from."""
    return job | {
        "SLURM_STEP_ID": "0",
        "SLURM_STEPID": "0",
        "SLURM_PROCID": str(rank),
        "SLURM_LOCALID": str(local_rank),
        "SLURM_NODEID": str(node),
        "SLURM_STEP_NUM_TASKS": str(size),
        "SLURM_NTASKS": str(size),
        "SLURM_STEP_TASKS_PER_NODE": per_node,
        "SLURM_STEP_NODELIST": "nid[001040-001041]",
        "SLURM_LAUNCH_NODE_IPADDR": "10.249.4.12",
        "SLURMD_NODENAME": f"nid00{1040 + node}",
    }


def cray_shasta(rank: int, size: int, local_rank: int, local_size: int, node: int):
    """Slurm's MPI plugin on Perlmutter."""
    return {
        "PALS_APID": "31415926.0",
        "PALS_RANKID": str(rank),
        "PALS_LOCAL_RANKID": str(local_rank),
        "PALS_NODEID": str(node),
        "PALS_SPOOL_DIR": "/var/spool/slurmd/mpi_cray_shasta/31415926.0",
        "PMI_JOBID": "31415926",
        "PMI_RANK": str(rank),
        "PMI_SIZE": str(size),
        "PMI_LOCAL_RANK": str(local_rank),
        "PMI_LOCAL_SIZE": str(local_size),
        "PMI_UNIVERSE_SIZE": str(size),
        "PMI_SHARED_SECRET": "1234567890",
    }


def hydra(rank: int, size: int, local_rank: int, local_size: int, host: str = "laptop"):
    return {
        "HYDI_CONTROL_FD": "7",
        "PMI_FD": "9",
        "PMI_HOSTNAME": host,
        "PMI_RANK": str(rank),
        "PMI_SIZE": str(size),
        "MPI_LOCALRANKID": str(local_rank),
        "MPI_LOCALNRANKS": str(local_size),
    }


def open_mpi(rank: int, size: int, local_rank: int, local_size: int, host: str = "laptop"):
    return {
        "OMPI_COMM_WORLD_RANK": str(rank),
        "OMPI_COMM_WORLD_SIZE": str(size),
        "OMPI_COMM_WORLD_LOCAL_RANK": str(local_rank),
        "OMPI_COMM_WORLD_LOCAL_SIZE": str(local_size),
        "OMPI_COMM_WORLD_NODE_RANK": str(local_rank),
        "OMPI_UNIVERSE_SIZE": str(size),
        "PMIX_RANK": str(rank),
        "PMIX_HOSTNAME": host,
        "PMIX_NAMESPACE": "prterun-laptop-7745@1",
        "PMIX_SERVER_URI41": "prterun-laptop-7745@0.0;tcp4://127.0.0.1:39693",
    }


def torchrun(rank: int, size: int, local_rank: int, local_size: int, node: int = 0):
    return {
        "TORCHELASTIC_RUN_ID": "1a973762-aa8d-4fab-beaf-d493b8f9be1a",
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_RANK": str(local_rank),
        "LOCAL_WORLD_SIZE": str(local_size),
        "GROUP_RANK": str(node),
        "GROUP_WORLD_SIZE": str(size // local_size),
        "ROLE_RANK": str(rank),
        "ROLE_WORLD_SIZE": str(size),
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": "37479",
    }


def horovodrun(rank: int, size: int, local_rank: int, local_size: int, host: str = "localhost"):
    return {
        "HOROVOD_RANK": str(rank),
        "HOROVOD_SIZE": str(size),
        "HOROVOD_LOCAL_RANK": str(local_rank),
        "HOROVOD_LOCAL_SIZE": str(local_size),
        "HOROVOD_CROSS_RANK": "0",
        "HOROVOD_CROSS_SIZE": "1",
        "HOROVOD_HOSTNAME": host,
        "HOROVOD_CONTROLLER": "gloo",
        "HOROVOD_GLOO_RENDEZVOUS_ADDR": "127.0.0.1",
    }


def pals(rank: int, local_rank: int, local_size: int, node: int):
    """mpiexec on Aurora with PALS_PMI=pmix: no world size."""
    return {
        "PALS_RANKID": str(rank),
        "PALS_LOCAL_RANKID": str(local_rank),
        "PALS_LOCAL_SIZE": str(local_size),
        "PALS_NODEID": str(node),
        "PALS_APID": "0b1c3f0a-5f0e-4a55-9a3e-0d1c2b3a4f5e",
        "PALS_PMI": "pmix",
        "PMIX_RANK": str(rank),
        "PMIX_NAMESPACE": "0b1c3f0a-5f0e-4a55-9a3e-0d1c2b3a4f5e",
        "ZE_FLAT_DEVICE_HIERARCHY": "FLAT",
    }


SINGLE = RankRecord(0, 1, 0, 1, None, "single")

RECORDED: dict[str, tuple[dict[str, str], RankRecord]] = {
    # One process
    "laptop shell": (SHELL, SINGLE),
    "Perlmutter login node": (SHELL | {"NERSC_HOST": "perlmutter", "SLURM_CONF": "/etc/slurm/slurm.conf"}, SINGLE),
    "Slurm batch shell": (BATCH_SHELL, SINGLE),
    "Slurm batch shell, step id spelt out": (BATCH_SHELL | {"SLURM_STEP_ID": "4294967291"}, SINGLE),
    "salloc shell on the login node": (PERLMUTTER_JOB, SINGLE),
    "salloc shell as interactive step": (
        slurm_task(0, 1, 0, 0, "1", PERLMUTTER_JOB) | {"SLURM_STEP_ID": "4294967290"},
        SINGLE,
    ),
    "ssh into a job, adopted by its extern step": (PERLMUTTER_JOB | {"SLURM_STEP_ID": "4294967292"}, SINGLE),
    "PBS job script": (PBS_JOB, SINGLE),
    "PBS job script with the expected world size": (PBS_JOB | {"HPC_DL_WORLD_SIZE": "24"}, SINGLE),
    "rank variables left empty": (SHELL | {"RANK": "", "WORLD_SIZE": " ", "PMI_SIZE": ""}, SINGLE),
    # Slurm
    "Perlmutter, cray_shasta, block": (
        slurm_task(5, 8, 1, 1, "4(x2)") | cray_shasta(5, 8, 1, 4, 1),
        RankRecord(5, 8, 1, 4, 1, "slurm", "nid001041"),
    ),
    "Slurm, cyclic": (slurm_task(5, 8, 2, 1, "4(x2)"), RankRecord(5, 8, 2, 4, 1, "slurm", "nid001041")),
    "Slurm, ragged, first node": (slurm_task(3, 7, 3, 0, "4,3"), RankRecord(3, 7, 3, 4, 0, "slurm", "nid001040")),
    "Slurm, ragged, second node": (slurm_task(6, 7, 2, 1, "4,3"), RankRecord(6, 7, 2, 3, 1, "slurm", "nid001041")),
    "Slurm, a step smaller than the job": (
        slurm_task(1, 2, 1, 0, "2"),
        RankRecord(1, 2, 1, 2, 0, "slurm", "nid001040"),
    ),
    "Slurm, pmi2": (
        slurm_task(7, 8, 3, 1, "4(x2)") | {"PMI_RANK": "7", "PMI_SIZE": "8", "PMI_FD": "12", "PMI_JOBID": "31415926.0"},
        RankRecord(7, 8, 3, 4, 1, "slurm", "nid001041"),
    ),
    "Slurm, pmix": (
        slurm_task(2, 8, 2, 0, "4(x2)") | {"PMIX_RANK": "2", "PMIX_NAMESPACE": "slurm.pmix.31415926.0"},
        RankRecord(2, 8, 2, 4, 0, "slurm", "nid001040"),
    ),
    "Slurm, NERSC's torch variables set in each task": (
        slurm_task(6, 8, 2, 1, "4(x2)")
        | {"RANK": "6", "WORLD_SIZE": "8", "LOCAL_RANK": "2", "MASTER_ADDR": "nid001040", "MASTER_PORT": "29500"},
        RankRecord(6, 8, 2, 4, 1, "slurm", "nid001041"),
    ),
    "Slurm, WORLD_SIZE exported in the job script": (
        slurm_task(6, 8, 2, 1, "4(x2)") | {"WORLD_SIZE": "8"},
        RankRecord(6, 8, 2, 4, 1, "slurm", "nid001041"),
    ),
    "srun --pty bash": (slurm_task(0, 1, 0, 0, "1"), RankRecord(0, 1, 0, 1, 0, "slurm", "nid001040")),
    # Launchers inside a Slurm job
    "torchrun, one agent per node under srun": (
        slurm_task(1, 2, 0, 1, "1(x2)") | torchrun(6, 8, 2, 4, 1),
        RankRecord(6, 8, 2, 4, 1, "torchrun"),
    ),
    "Hydra inside a Slurm batch job, proxies started by srun": (
        slurm_task(1, 2, 0, 1, "1(x2)") | hydra(5, 8, 1, 4, "nid001041"),
        RankRecord(5, 8, 1, 4, None, "hydra", "nid001041"),
    ),
    "Hydra inside Slurm, proxies under cray_shasta": (
        slurm_task(1, 2, 0, 1, "1(x2)") | cray_shasta(1, 2, 0, 1, 1) | hydra(5, 8, 1, 4, "nid001041"),
        RankRecord(5, 8, 1, 4, None, "hydra", "nid001041"),
    ),
    "Open MPI inside a Slurm batch job, daemons started by srun": (
        slurm_task(0, 1, 0, 0, "1") | open_mpi(7, 8, 3, 4, "nid001041"),
        RankRecord(7, 8, 3, 4, None, "openmpi", "nid001041"),
    ),
    "mpiexec in the batch shell, ranks on the first node": (
        BATCH_SHELL | hydra(1, 4, 1, 4, "nid001040"),
        RankRecord(1, 4, 1, 4, None, "hydra", "nid001040"),
    ),
    "horovodrun in the batch shell": (
        BATCH_SHELL | horovodrun(3, 4, 3, 4, "nid001040"),
        RankRecord(3, 4, 3, 4, None, "horovod", "nid001040"),
    ),
    # PALS
    "Aurora": (PBS_JOB | pals(13, 1, 12, 1), RankRecord(13, None, 1, 12, 1, "pals")),
    "Aurora, world size by the job script": (
        PBS_JOB | pals(13, 1, 12, 1) | {"HPC_DL_WORLD_SIZE": "24"},
        RankRecord(13, 24, 1, 12, 1, "pals"),
    ),
    "Aurora, PMI_SIZE empty": (
        PBS_JOB | pals(0, 0, 12, 0) | {"PMI_SIZE": "", "PMI_RANK": "0"},
        RankRecord(0, None, 0, 12, 0, "pals"),
    ),
    "Aurora, PMI_SIZE is a count per node": (
        PBS_JOB | pals(23, 11, 12, 1) | {"PMI_SIZE": "12", "PMI_RANK": "23", "HPC_DL_WORLD_SIZE": "24"},
        RankRecord(23, 24, 11, 12, 1, "pals"),
    ),
    "Aurora, Hydra's local names exported for oneCCL": (
        PBS_JOB | pals(13, 1, 12, 1) | {"MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "12", "HPC_DL_WORLD_SIZE": "24"},
        RankRecord(13, 24, 1, 12, 1, "pals"),
    ),
    "Aurora, six ranks per node, cyclic": (
        PBS_JOB | pals(3, 1, 6, 1) | {"HPC_DL_WORLD_SIZE": "12"},
        RankRecord(3, 12, 1, 6, 1, "pals"),
    ),
    "Polaris": (
        PBS_JOB
        | {"PALS_RANKID": "6", "PALS_LOCAL_RANKID": "2", "PALS_NODEID": "1"}
        | {"PMI_RANK": "6", "PMI_SIZE": "8", "PMI_LOCAL_RANK": "2", "PMI_LOCAL_SIZE": "4", "PMI_UNIVERSE_SIZE": "8"},
        RankRecord(6, 8, 2, 4, 1, "cray-pmi"),
    ),
    # MPI on a laptop or a small cluster
    "MPICH on a laptop": (SHELL | hydra(1, 2, 1, 2), RankRecord(1, 2, 1, 2, None, "hydra", "laptop")),
    "MPICH, one rank": (SHELL | hydra(0, 1, 0, 1), RankRecord(0, 1, 0, 1, None, "hydra", "laptop")),
    "MPICH, two hosts, cyclic": (SHELL | hydra(3, 4, 1, 2, "b"), RankRecord(3, 4, 1, 2, None, "hydra", "b")),
    "MPICH, two hosts, ragged": (SHELL | hydra(3, 4, 0, 1, "b"), RankRecord(3, 4, 0, 1, None, "hydra", "b")),
    "Intel MPI": (
        SHELL
        | hydra(1, 2, 1, 2)
        | {"I_MPI_ROOT": "/opt/intel/mpi", "MPI_LOCALCORES": "0", "I_MPI_HYDRA_TOPOLIB": "hwloc"},
        RankRecord(1, 2, 1, 2, None, "hydra", "laptop"),
    ),
    "Intel MPI in a PBS job": (PBS_JOB | hydra(4, 6, 1, 3, "b"), RankRecord(4, 6, 1, 3, None, "hydra", "b")),
    "Open MPI 4": (
        SHELL | open_mpi(1, 2, 1, 2) | {"OMPI_MCA_orte_ess_node_rank": "1", "PMIX_ID": "1185742849.1"},
        RankRecord(1, 2, 1, 2, None, "openmpi", "laptop"),
    ),
    "Open MPI 5, two hosts, cyclic, ragged": (
        SHELL | open_mpi(2, 4, 1, 3, "a"),
        RankRecord(2, 4, 1, 3, None, "openmpi", "a"),
    ),
    "torchrun on a laptop": (SHELL | torchrun(1, 2, 1, 2), RankRecord(1, 2, 1, 2, 0, "torchrun")),
    "torch's four variables set by hand": (
        SHELL | {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"},
        RankRecord(3, 4, 1, 2, None, "torchrun"),
    ),
    "horovodrun --gloo": (SHELL | horovodrun(1, 2, 1, 2), RankRecord(1, 2, 1, 2, None, "horovod", "localhost")),
    "Horovod's tuning variables alone": (
        SHELL | {"HOROVOD_CYCLE_TIME": "0.1", "HOROVOD_FUSION_THRESHOLD": "67108864", "HOROVOD_LOG_LEVEL": "warning"},
        SINGLE,
    ),
}

REFUSED: dict[str, tuple[dict[str, str], str]] = {
    "RANK without WORLD_SIZE": ({"RANK": "0"}, "WORLD_SIZE is missing"),
    "WORLD_SIZE alone": ({"WORLD_SIZE": "4"}, "RANK is missing"),
    "a PMIx rank alone": ({"PMIX_RANK": "0"}, "no variable tells the world size"),
    "a PMI rank without local rank": ({"PMI_RANK": "0", "PMI_SIZE": "2"}, "no variable tells the local rank"),
    "Hydra without size": ({k: v for k, v in hydra(0, 2, 0, 2).items() if k != "PMI_SIZE"}, "PMI_SIZE is missing"),
    "Open MPI without local rank": (
        {"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "2"},
        "OMPI_COMM_WORLD_LOCAL_RANK is missing",
    ),
    "Horovod without size": ({"HOROVOD_RANK": "0"}, "HOROVOD_SIZE is missing"),
    "PALS without local size": ({"PALS_RANKID": "0", "PALS_LOCAL_RANKID": "0"}, "PALS_LOCAL_SIZE is missing"),
    "Slurm step without node id": (
        {k: v for k, v in slurm_task(0, 2, 0, 0, "2").items() if k != "SLURM_NODEID"},
        "SLURM_NODEID is missing",
    ),
    "rank not below world size": (hydra(2, 2, 0, 2), "PMI_RANK=2, PMI_SIZE=2: the rank must be below the world size"),
    "local rank not below local size": (open_mpi(3, 4, 2, 1), "OMPI_COMM_WORLD_LOCAL_RANK=2"),
    "local size above world size": (hydra(0, 2, 0, 4), "a node cannot hold more ranks than the world"),
    "a rank that is no number": (horovodrun(0, 2, 0, 2) | {"HOROVOD_RANK": "one"}, "HOROVOD_RANK=one"),
    "a negative rank": (hydra(-1, 2, 0, 2), "PMI_RANK=-1"),
    "an Arabic-Indic digit": (hydra(0, 2, 0, 2) | {"PMI_RANK": "١"}, "not a whole number"),
    "aliases disagree under PALS": (pals(1, 1, 2, 0) | {"PMIX_RANK": "0"}, "PALS_RANKID=1, PMIX_RANK=0: they disagree"),
    "leftover RANK under mpiexec": (hydra(1, 2, 1, 2) | {"RANK": "0"}, "PMI_RANK=1, RANK=0: they disagree"),
    "leftover WORLD_SIZE under srun": (
        slurm_task(1, 8, 1, 0, "4(x2)") | {"WORLD_SIZE": "1"},
        "SLURM_STEP_NUM_TASKS=8, WORLD_SIZE=1: they disagree about the world size",
    ),
    "wrong LOCAL_RANK under srun, cyclic": (slurm_task(2, 4, 1, 0, "2(x2)") | {"LOCAL_RANK": "0"}, "local rank"),
    "PALS rank beyond the expected world": (pals(24, 0, 12, 2) | {"HPC_DL_WORLD_SIZE": "24"}, "HPC_DL_WORLD_SIZE=24"),
    "Slurm node beyond the list": (slurm_task(1, 2, 0, 1, "2"), "the node is not in the list"),
    "Slurm tasks per node unreadable": (slurm_task(0, 2, 0, 0, "2x2"), "cannot read"),
    "torchrun with its size lost": (
        {k: v for k, v in torchrun(0, 2, 0, 2).items() if k != "WORLD_SIZE"},
        "WORLD_SIZE is missing",
    ),
}
