# SPDX-License-Identifier: Apache-2.0
"""Start ranks on the hosts of a bed, as mpiexec with ssh would on a cluster.

mpiexec runs inside the first host. Its "ssh" is `remote.sh`, which enters the namespace of the host it is asked for.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from hpc_dl.errors import HpcDlError
from testbed.network import Bed

REMOTE = Path(__file__).parent / "remote.sh"
VARIABLES = {
    # Left alone, MPICH finds that all ranks share memory and bypasses the links. Its other network module, UCX, keeps
    # to them as well (UCX_TLS=tcp,self), but sends and receives by turns: half the rate (docs/bench.md).
    "MPIR_CVAR_CH4_NETMOD": "ofi",
    "FI_PROVIDER": "tcp",
    "FI_TCP_IFACE": "eth0",
    "GLOO_SOCKET_IFNAME": "eth0",
    "OMP_NUM_THREADS": "1",
}
"""Set for every rank: stay on the links, and one thread a rank."""


def command(bed: Bed, hosts: int, words: Sequence[str], ranks_per_host: int = 1) -> list[str]:
    """The words that start `words` as ranks on the first `hosts` hosts."""
    mpiexec = shutil.which("mpiexec")
    if mpiexec is None:
        raise HpcDlError("mpiexec", "not on PATH", "put the environment's bin folder on PATH, or pip install mpich")
    if hosts > bed.hosts:
        raise HpcDlError(f"{hosts} hosts", f"the bed has {bed.hosts}", "bring up a larger one")
    names = ",".join(bed.host_name(host) for host in range(hosts))
    start = (mpiexec, "-launcher", "ssh", "-launcher-exec", str(REMOTE), "-iface", "eth0", "-hosts", names)
    return [*inside(bed, 0), *start, "-n", str(hosts * ranks_per_host), "-ppn", str(ranks_per_host), *words]


def inside(bed: Bed, host: int) -> list[str]:
    """The words before a command that is to run on a host, under the host's own name."""
    return ["ip", "netns", "exec", bed.namespace(host), *f"unshare -u sh {REMOTE} --here".split(), bed.host_name(host)]


def run(
    bed: Bed,
    hosts: int,
    words: Sequence[str],
    environ: Mapping[str, str],
    timeout_seconds: float,
    ranks_per_host: int = 1,
) -> subprocess.CompletedProcess[str]:
    """Run to the end and return what was printed; ended with all its ranks when the time is over."""
    variables = {**environ, **VARIABLES, "HPC_DL_TESTBED": bed.name}
    process = subprocess.Popen(
        command(bed, hosts, words, ranks_per_host),
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        output, _ = process.communicate(timeout=timeout_seconds)
    except subprocess.TimeoutExpired:
        _end(bed)
        output, _ = process.communicate(timeout=30)
        output += f"\nended after {timeout_seconds:g} seconds"
        return subprocess.CompletedProcess(words, -9, output)
    return subprocess.CompletedProcess(words, process.returncode, output)


def _end(bed: Bed) -> None:
    """End every process in the bed's hosts, by id."""
    for host in range(bed.hosts):
        listing = subprocess.run(
            ("ip", "netns", "pids", bed.namespace(host)), capture_output=True, text=True, timeout=10, check=False
        )
        for pid in listing.stdout.split():
            subprocess.run(("kill", "-9", pid), check=False, capture_output=True, timeout=10)
