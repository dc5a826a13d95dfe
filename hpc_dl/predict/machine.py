# SPDX-License-Identifier: Apache-2.0
"""A network from a machine record, with how far it may be off: the record's NICs and what allreduces reach of them."""

from __future__ import annotations

import csv
from pathlib import Path

from hpc_dl.cluster.machine import Machine
from hpc_dl.errors import HpcDlError
from hpc_dl.predict.collectives import Link
from hpc_dl.predict.nccl import Fabric
from hpc_dl.predict.network import LinkedNetwork, NcclNetwork, Network
from hpc_dl.predict.posterior import Prior

NETWORKS = Path(__file__).parent / "networks.csv"
LIBRARY_OF_DEVICE = {"cuda": "nccl", "xpu": "oneccl", "cpu": "mpich"}
USUAL_SHARE = 0.6
"""Of the nominal NIC rate, where a machine is not in networks.csv: what the published results point to."""
USUAL_SPREAD = 0.7
"""Standard deviation of the logarithm of a time per byte, likewise: a factor of 2 either way."""
USUAL_LATENCY_SECONDS = 5e-6
INSIDE_BYTES_PER_SECOND = {"nccl": 150e9, "oneccl": 80e9, "mpich": 5e9}
"""Bus bandwidth within a node, where nothing better is known."""


def from_machine(machine: Machine) -> Prior:
    """The network of a machine.

    Raises:
        HpcDlError: The record names no NIC.
    """
    node = machine.node
    if not node.nics or not node.nic_gigabytes_per_second:
        raise HpcDlError(
            f"a prediction for {machine.name}", "its record names no NICs", "add node.nics and nic_gigabytes_per_second"
        )
    row = _rows().get(machine.name, {})
    library = row.get("library") or LIBRARY_OF_DEVICE[machine.device]
    nominal = node.nics * node.nic_gigabytes_per_second * 1e9
    share = float(row.get("share of nics") or USUAL_SHARE)
    spread = float(row.get("spread") or USUAL_SPREAD)
    inside = float(row.get("inside gigabytes per second") or INSIDE_BYTES_PER_SECOND[library] / 1e9) * 1e9
    source = row.get("source") or f"{node.nics} NICs of {node.nic_gigabytes_per_second:g} GB/s, of which {share:.0%}"
    network = _network(library, machine.ranks.per_node, inside, share * nominal, row)
    return Prior(network, spread, f"machine {machine.name}: {source}", most_nodes=node.count)


def _network(library: str, per_node: int, inside: float, across: float, row: dict[str, str]) -> Network:
    """inside, across: bytes per second; per_node: ranks."""
    if library == "nccl":
        return NcclNetwork(Fabric(per_node, inside, across), float(row.get("latency") or 1.0))
    latency = float(row.get("latency") or USUAL_LATENCY_SECONDS)
    near = float(row.get("inside latency seconds") or latency)
    return LinkedNetwork(library, Link.of(near, inside), Link.of(latency, across))


def _rows() -> dict[str, dict[str, str]]:
    with NETWORKS.open(encoding="utf-8", newline="") as lines:
        return {row["machine"]: row for row in csv.DictReader(line for line in lines if not line.startswith("#"))}
