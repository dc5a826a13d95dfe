# SPDX-License-Identifier: Apache-2.0
"""Where the ranks meet: address and port of torch.distributed's store, from the environment alone."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import NamedTuple

from hpc_dl.cluster.hosts import expand_hosts
from hpc_dl.cluster.launchers import in_slurm_step
from hpc_dl.errors import HpcDlError

FIRST_PORT, PORTS = 10000, 20000
"""Ports of Slurm steps: below 32768, where Linux begins to give out ports for outgoing connections."""


class Address(NamedTuple):
    """Where rank 0 opens the store."""

    host: str
    port: int


def resolves(host: str) -> bool:
    """Does the name resolve here?"""
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return False
    return True


def find_address(environ: Mapping[str, str], resolves: Callable[[str], bool] = resolves) -> Address | None:
    """The store's address: MASTER_ADDR and MASTER_PORT (torchrun sets both), else what the Slurm step tells.

    Args:
        environ: Environment of this process.
        resolves: Tells whether a host name can be used; the names of a test cluster cannot.

    Returns:
        None where the environment says nothing: the caller then agrees on an address through MPI.

    Raises:
        HpcDlError: An address without a port, or a port that is none.
    """
    host = environ.get("MASTER_ADDR") or _slurm_host(environ, resolves)
    port = environ.get("MASTER_PORT") or _slurm_port(environ)
    if not host:
        return None
    if not port:
        raise HpcDlError("where ranks meet", f"MASTER_ADDR={host} but no MASTER_PORT", "set both or neither")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise HpcDlError("where ranks meet", f"MASTER_PORT={port}", "give a port between 1024 and 65535")
    return Address(host, int(port))


def _slurm_host(environ: Mapping[str, str], resolves: Callable[[str], bool]) -> str | None:
    """The step's first node, which holds rank 0 under block and cyclic distribution.

    SLURM_LAUNCH_NODE_IPADDR is where srun ran: the same node in a batch job, hence only the fallback.
    """
    if not in_slurm_step(environ) or not (nodes := environ.get("SLURM_STEP_NODELIST")):
        return None
    first = expand_hosts(nodes)[0]
    return first if resolves(first) else environ.get("SLURM_LAUNCH_NODE_IPADDR")


def _slurm_port(environ: Mapping[str, str]) -> str | None:
    """A port from job and step: the same on all ranks, another one for each job on a shared node."""
    job, step = environ.get("SLURM_JOB_ID", ""), environ.get("SLURM_STEP_ID", "")
    if not in_slurm_step(environ) or not (job.isdigit() and step.isdigit()):
        return None
    return str(FIRST_PORT + (int(job) + 97 * int(step)) % PORTS)
