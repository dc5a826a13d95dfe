# SPDX-License-Identifier: Apache-2.0
"""Numbers from the words of a published table: how many ranks a node has, what its network carries, how big a model is.

Words are looked up in tables, never per row; what cannot be found is None, and the caller says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

NIC_GIGABYTES_PER_SECOND = {
    "slingshot-11": 25.0,
    "slingshot-10": 12.5,
    "ndr400": 50.0,
    "ndr": 50.0,
    "hdr200": 25.0,
    "hdr": 25.0,
    "edr": 12.5,
    "fdr": 6.8,
    "aries": 9.7,
    "tofud": 6.8,
    "infiniband": 12.5,
    "ici": 70.0,
}
"""One port, one direction: InfiniBand and Slingshot data sheets; Aries as measured on Piz Daint (both ways, per node).
"InfiniBand" without a rate counts as EDR; a TPU's ICI is from general knowledge."""
INSIDE_GIGABYTES_PER_SECOND = {
    "nvswitch": 235.0,
    "nvlink3": 200.0,
    "nvlink2": 120.0,
    "nvlink": 60.0,
    "infinity": 125.0,
    "xe-link": 81.0,
    "on-chip": 200.0,
    "pcie": 10.0,
}
"""Bus bandwidth of an allreduce within a node, first word that fits: 235 (DGX A100) and 125 (LUMI) as measured,
Aurora's 81 from 0.875 GB in 19.7 ms, the others from link counts."""
DEFAULT_INSIDE = 50.0


@dataclass(frozen=True)
class Hardware:
    """A system as far as the model of published results needs it."""

    key: str
    """Its name in the table of systems: rows that share it never calibrate for one another."""
    per_node: int
    network_bytes_per_second: float | None
    """All NICs of a node, one direction; None where it has no network (one node only) or its rate is unknown."""
    tcp: bool
    """Bytes go through the kernel's TCP stack (Ethernet without RDMA)."""
    inside_bytes_per_second: float


def find(name: str, known: Iterable[str]) -> str | None:
    """The known name that shares most words with `name`; None where fewer than a quarter are shared.

    >>> find("DGX-2H V100 (nodes)", ["DGX-1 V100", "DGX-2 / DGX-2H V100"])
    'DGX-2 / DGX-2H V100'
    """
    words = _words(name)
    scored = [(len(words & _words(other)) / len(words | _words(other)), -len(other), other) for other in known]
    best = max(scored, default=(0.0, 0, ""))
    return best[2] if best[0] >= 0.25 else None


def _words(text: str) -> set[str]:
    return set(re.findall(r"[a-z0-9]+", re.sub(r"\(.*?\)", "", text.lower())))


def hardware(system: str, software: str, systems: Mapping[str, Mapping[str, str]]) -> Hardware | None:
    """What is known of a system; None where the table of systems lacks it or says nothing of its nodes.

    Args:
        system, software: As a row of results names them; the software says whether the network is used by TCP.
        systems: Rows of the table of systems by name.
    """
    key = find(system, systems)
    if key is None:
        return None
    row = systems[key]
    if (like := re.search(r"\bas (\w+)", " ".join(row.values()))) and like.group(1) != "above":
        key = find(like.group(1), systems) or key
        row = systems[key]
    per_node = ranks_per_node(row.get("accelerators per node", ""))
    if per_node is None:
        return None
    nic, inside = row.get("nic per node", ""), row.get("intra-node", "")
    wants_tcp = "tcp" in software.lower()
    tcp = wants_tcp or ("gbe" in nic.lower() and not re.search(r"roce|rdma|efa", (nic + software).lower()))
    rate = network_rate(nic, wants_tcp)
    gigabytes = next((value for word, value in INSIDE_GIGABYTES_PER_SECOND.items() if word in inside.lower()), None)
    return Hardware(key, per_node, rate, tcp, (gigabytes or DEFAULT_INSIDE) * 1e9)


def ranks_per_node(text: str) -> int | None:
    """Ranks from "8 x V100", "6 x PVC = 12 tiles", "8 K80 dies"; None where no number leads."""
    match = re.search(r"=\s*(\d+)", text) or re.match(r"\s*(\d+)\b", text)
    return int(match.group(1)) if match else None


def network_rate(text: str, tcp: bool = False) -> float | None:
    """Bytes per second of a node's NICs from "2 x EDR: 25 GB/s", "10 GbE", "4 x HDR200"; the Ethernet part for TCP."""
    number = r"(\d+(?:\.\d+)?)"
    if tcp and (ethernet := re.search(r"Ethernet about (?:\d+-)?" + number + r" Gb/s", text)):
        return float(ethernet.group(1)) * 1e9 / 8
    if product := re.search(number + r" x " + number + r" GB/s", text):
        return float(product.group(1)) * float(product.group(2)) * 1e9
    if spread := re.search(number + r"(?:-" + number + r")? GB/s", text):
        values = [float(value) for value in spread.groups() if value]
        return sum(values) / len(values) * 1e9
    count = float(match.group(1)) if (match := re.search(r"(\d+) x ", text)) else 1.0
    if ethernet := re.search(number + r" GbE", text):
        return count * float(ethernet.group(1)) * 1e9 / 8
    technology = next((rate for word, rate in NIC_GIGABYTES_PER_SECOND.items() if word in text.lower()), None)
    return None if technology is None else count * technology * 1e9


def parameters(model: str, models: Mapping[str, Mapping[str, str]]) -> float | None:
    """Trainable parameters of a model: from the table, or from a size in its name ("AuroraGPT-20B")."""
    alias = re.sub(r"v(\d)-", r"-", model.replace("EfficientNet v2-", "EfficientNetV2-"))
    key = find(alias, models)
    if key is not None:
        value = next(text for column, text in models[key].items() if column.startswith("parameters"))
        return float(value) * 1e6
    if size := re.search(r"(\d+(?:\.\d+)?)\s*([BM])\b", model):
        return float(size.group(1)) * (1e9 if size.group(2) == "B" else 1e6)
    return None
