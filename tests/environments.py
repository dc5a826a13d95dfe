# SPDX-License-Identifier: Apache-2.0
"""Runs tests where other machines' environments are exported, and prints a table of what passed where.

    python -m tests.environments [NAME ...] [--together] [--all | --tests FOLDER ...]

Every environment is words that stand before a command. Values are what users of these machines have, or worse.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from tests.pbs.standin.site import enter_node
from tests.slurm.slurm_bed import bring_up, missing
from tests.world import BIN, ROOT

SENSITIVE = tuple(f"tests/{name}" for name in ["slurm", "pbs", "jobs", "cluster", "parallel", "doctor", "launch"])
LOGS = ROOT / "build" / "environments"
FOREIGN_FUNCTION = "() {  echo 'a function of the login shell was called' >&2; return 97; }"
EVERYWHERE = {
    "BASH_FUNC_module%%": FOREIGN_FUNCTION,
    "BASH_FUNC_ml%%": FOREIGN_FUNCTION,
    "BASH_FUNC_srun%%": FOREIGN_FUNCTION,
    "BASH_FUNC_python%%": FOREIGN_FUNCTION,
    "LOADEDMODULES": "craype-x86-milan:cray-mpich/8.1.30:pytorch/2.8.0:frameworks/2025.3.1",
    "MODULEPATH": "/opt/cray/modulefiles",
    "LMOD_CMD": "/opt/lmod/libexec/lmod",
    "MPICH_GPU_SUPPORT_ENABLED": "1",
    "OMP_PROC_BIND": "spread",
    "OMP_PLACES": "threads",
    "OMP_NUM_THREADS": "64",
    "PYTHONWARNINGS": "error",
    "PYTHONSTARTUP": "/nonexistent/startup.py",
    "PYTHONUNBUFFERED": "1",
    "MASTER_ADDR": "login.invalid",
    "MASTER_PORT": "1",
    "RANK": "3",
    "WORLD_SIZE": "8",
    "LOCAL_RANK": "3",
    "HOROVOD_FUSION_THRESHOLD": "1",
    "HOROVOD_RANK": "3",
    "HPC_DL_WORLD_SIZE": "8",
    "HPC_DL_RUN_FOLDER": "/nonexistent/run",
    "HPC_DL_JOB_END": "1",
    "TORCH_DISTRIBUTED_DEBUG": "DETAIL",
    "COLUMNS": "20",
    "TMPDIR": "/nonexistent/tmp",
    "LD_PRELOAD": "/nonexistent/libxalt_init.so",
}
PERLMUTTER = {
    "NERSC_HOST": "perlmutter",
    "LMOD_SYSTEM_NAME": "perlmutter",
    "SCRATCH": "/pscratch/sd/u/user",
    "SLURM_TIME_FORMAT": "%d/%m/%Y %H:%M",
    "SLURM_CONF": "/nonexistent/slurm.conf",
    "SLURM_MPI_TYPE": "cray_shasta",
    "SLURM_JOB_ID": "31415926",
    "SLURM_PROCID": "5",
    "SLURM_NTASKS": "8",
    "SLURM_NTASKS_PER_NODE": "4",
    "SLURM_CPU_BIND": "cores",
    "SBATCH_ACCOUNT": "nobody",
    "SBATCH_TIMELIMIT": "1",
    "SBATCH_EXPORT": "NONE",
    "SALLOC_ACCOUNT": "nobody",
    "SRUN_CPUS_PER_TASK": "32",
    "SQUEUE_FORMAT": "%i",
    "SINFO_FORMAT": "%N",
    "CUDA_VISIBLE_DEVICES": "",
    "NCCL_NET": "AWS Libfabric",
    "FI_CXI_DEFAULT_CQ_SIZE": "131072",
    "MPICH_OFI_NIC_POLICY": "GPU",
    "PMI_RANK": "5",
    "PMI_SIZE": "8",
    "PALS_RANKID": "5",
}
AURORA = {
    "LMOD_SYSTEM_NAME": "aurora",
    "HPC_DL_MACHINE": "aurora",
    "PBS_JOBID": "8123456.aurora-pbs-0001",
    "PBS_NODEFILE": "/nonexistent/nodes",
    "PBS_O_WORKDIR": "/nonexistent",
    "PBS_ENVIRONMENT": "PBS_INTERACTIVE",
    "PBS_DEFAULT": "pbs.invalid",
    "PBS_CONF_FILE": "/nonexistent/pbs.conf",
    "PALS_LOCAL_RANKID": "5",
    "PMIX_RANK": "5",
    "OMPI_COMM_WORLD_RANK": "5",
    "HYDRA_LAUNCHER": "pbs",
    "ZE_AFFINITY_MASK": "0.1",
    "ZE_FLAT_DEVICE_HIERARCHY": "COMPOSITE",
    "ONEAPI_DEVICE_SELECTOR": "opencl:gpu;level_zero:gpu",
    "CCL_PROCESS_LAUNCHER": "pmix",
    "CCL_WORKER_AFFINITY": "0,52",
    "FI_PROVIDER": "cxi",
    "KMP_AFFINITY": "disabled",
    "http_proxy": "http://proxy.invalid:3128",
    "https_proxy": "http://proxy.invalid:3128",
}
Words = list[str]


class NotHere(Exception):
    """An environment that this machine cannot give."""


def env(variables: Mapping[str, str]) -> Words:
    return ["env", *(f"{name}={text}" for name, text in variables.items())]


@contextlib.contextmanager
def here() -> Iterator[Words]:
    yield []


@contextlib.contextmanager
def lmod() -> Iterator[Words]:
    """A login shell whose /etc/profile.d has Lmod's file, as Debian's package puts it there."""
    if not Path("/etc/profile.d/lmod.sh").exists():
        raise NotHere("no Lmod: apt-get install lmod")
    yield [
        "env",
        "HOME=/nonexistent",
        "bash",
        "-l",
        "-c",
        'module load Core/lmod && PATH="$0:$PATH" exec "$@"',
        str(BIN),
    ]


@contextlib.contextmanager
def in_slurm_allocation() -> Iterator[Words]:
    """A step of a job of two nodes, on a Slurm of its own: the tests bring up another one in it."""
    if reason := missing():
        raise NotHere(reason)
    with tempfile.TemporaryDirectory(prefix="around", dir="/tmp") as folder, bring_up(Path(folder)) as bed:
        allocation = ["salloc", "-Q", "-A", "m1234", "-N", "2", "-n", "8", "--gpus-per-node=4", "-t", "120"]
        yield [*env(bed.environ), *allocation, "srun", "-N", "1", "-n", "1", "-c", "2"]


@contextlib.contextmanager
def login_node_of_perlmutter() -> Iterator[Words]:
    yield env({**EVERYWHERE, **PERLMUTTER})


@contextlib.contextmanager
def login_node_of_aurora() -> Iterator[Words]:
    """Also the host's name, a second MPI and packages that shadow ours on the usual paths, and a narrow umask."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        (folder / "hosts").write_text("127.0.0.1 localhost aurora-uan-0010\n")
        (folder / "libmpi.so.12").write_text("not ours")
        (folder / "bin").mkdir()
        for command in ("mpiexec", "qstat", "qsub", "srun", "sbatch", "scontrol", "python"):
            (folder / "bin" / command).write_text('#!/bin/sh\necho "the site\'s $0 was called" >&2; exit 96\n')
            (folder / "bin" / command).chmod(0o755)
        for package in ("hpc_dl", "torch", "numpy", "mpi4py"):
            (folder / f"{package}.py").write_text("raise ImportError('a package of the site')\n")
        (folder / "bash_env").write_text("module() { echo 'BASH_ENV was read' >&2; return 95; }\n")
        at = {"LD_LIBRARY_PATH": name, "PYTHONPATH": name, "BASH_ENV": f"{name}/bash_env"}
        narrow = ["bash", "-c", 'umask 077; PATH="$0/bin:$PATH" exec "$@"', name]
        yield [*enter_node("aurora-uan-0010", folder / "hosts"), *narrow, *env({**EVERYWHERE, **AURORA, **at})]


@contextlib.contextmanager
def locale_and_timezone() -> Iterator[Words]:
    yield env({"LC_ALL": "C", "LANG": "de_DE.UTF-8", "LANGUAGE": "de", "TZ": "Asia/Kolkata"})


@contextlib.contextmanager
def home_with_space() -> Iterator[Words]:
    """A HOME with a space in its name, whose settings for Python, matplotlib and the shell break what reads them."""
    with tempfile.TemporaryDirectory(prefix="first last ", dir="/tmp") as home:
        for name in (".bashrc", ".bash_profile", ".profile"):
            (Path(home) / name).write_text("echo 'a file of HOME was read' >&2; exit 94\n")
        (Path(home) / ".config" / "matplotlib").mkdir(parents=True)
        (Path(home) / ".config" / "matplotlib" / "matplotlibrc").write_text("backend: no_such_backend\n")
        yield env({"HOME": home})


Environment = Callable[[], contextlib.AbstractContextManager[Words]]
ENVIRONMENTS: Mapping[str, Environment] = {
    function.__name__.replace("_", "-"): function
    for function in (
        here,
        in_slurm_allocation,
        lmod,
        login_node_of_perlmutter,
        login_node_of_aurora,
        locale_and_timezone,
        home_with_space,
    )
}


@contextlib.contextmanager
def together(names: Sequence[str]) -> Iterator[Words]:
    """One environment inside the other, in the order of the table."""
    with contextlib.ExitStack() as stack:
        yield [word for name in ENVIRONMENTS if name in names for word in stack.enter_context(ENVIRONMENTS[name]())]


def run(names: Sequence[str], tests: Sequence[str], log: Path) -> tuple[int, str]:
    """Exit status and the last line of pytest, run in these environments at once."""
    try:
        with together(names) as words, log.open("w", encoding="utf-8") as output:
            command = [*words, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
            done = subprocess.run(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, cwd=ROOT)
    except NotHere as reason:
        return 1, str(reason)
    lines = log.read_text(encoding="utf-8").splitlines()
    results = [line for line in lines if re.search(r"\d (passed|failed|error)", line)]
    return done.returncode, (results or lines or ["nothing was printed"])[-1].strip("= ")


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(ENVIRONMENTS)}; by default all")
    parser.add_argument("--together", action="store_true", help="one run, in all of them at once")
    parser.add_argument("--all", action="store_true", help="all tests, not only those that look at their machine")
    parser.add_argument("--tests", nargs="+", default=SENSITIVE, help="what pytest is given")
    given = parser.parse_args(words)
    names = given.names or list(ENVIRONMENTS)
    if unknown := set(names) - set(ENVIRONMENTS):
        parser.error(f"no environment {', '.join(sorted(unknown))}: give some of {', '.join(ENVIRONMENTS)}")
    LOGS.mkdir(parents=True, exist_ok=True)
    worst = 0
    for group in [names] if given.together else [[name] for name in names]:
        title, begun = "+".join(group) if len(group) < 3 else "together", time.monotonic()
        status, last = run(group, [] if given.all else given.tests, LOGS / f"{title}.txt")
        seconds = time.monotonic() - begun
        print(f"{title:26} {'ok' if status == 0 else 'FAILED':7} {last}  ({seconds:.0f} s)", flush=True)
        worst = worst or status
    print(f"What pytest printed: {LOGS.relative_to(ROOT)}/")
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
