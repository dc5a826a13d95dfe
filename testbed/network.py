# SPDX-License-Identifier: Apache-2.0
"""Hosts as network namespaces on a bridge of their own; token buckets limit the links.

Each host has one interface, `eth0`, with an address of a private subnet, and knows the others by name: `ip netns exec`
shows it /etc/netns/NAMESPACE/hosts as /etc/hosts. Nothing outside the bed's own namespaces is changed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hpc_dl.errors import HpcDlError

HOSTS_FOLDER = Path("/etc/netns")
BURST_SECONDS = 0.5e-3
"""A token bucket lets through at once what the link carries in this time, and at least ten packets."""
SMALLEST_BURST_BYTES = 16 * 1024
UNITS = {"kbit": 1e3, "mbit": 1e6, "gbit": 1e9}


@dataclass(frozen=True)
class Bed:
    """A cluster of `hosts` namespaces, named after `name` so that several beds can stand side by side."""

    name: str
    hosts: int

    @property
    def switch(self) -> str:
        return f"{self.name}-switch"

    def namespace(self, host: int) -> str:
        return f"{self.name}-host{host}"

    def host_name(self, host: int) -> str:
        return f"host{host}"

    def address(self, host: int) -> str:
        return f"10.77.0.{host + 1}"

    def namespaces(self) -> Iterator[str]:
        """The switch, then the hosts."""
        yield self.switch
        yield from (self.namespace(host) for host in range(self.hosts))


def up(bed: Bed, rate: str = "") -> None:
    """Bring a bed up.

    Args:
        bed: Name and number of hosts.
        rate: Of each link and direction as tc writes it ("200mbit", "1gbit"); empty for links as fast as memory.
    """
    require()
    if any(name in existing() for name in bed.namespaces()):
        raise HpcDlError(f"test bed {bed.name!r}", "it is up already", f"python -m testbed --name {bed.name} down")
    try:
        _run("ip", "netns", "add", bed.switch)
        _in(bed.switch, "ip", "link", "add", "bridge", "type", "bridge")
        _in(bed.switch, "ip", "link", "set", "bridge", "up")
        for host in range(bed.hosts):
            _add_host(bed, host)
        if rate:
            limit(bed, rate)
    except BaseException:
        down(bed)
        raise


def _add_host(bed: Bed, host: int) -> None:
    space, port = bed.namespace(host), f"port{host}"
    _run("ip", "netns", "add", space)
    folder = HOSTS_FOLDER / space
    folder.mkdir(parents=True, exist_ok=True)
    names = "".join(f"{bed.address(other)} {bed.host_name(other)}\n" for other in range(bed.hosts))
    (folder / "hosts").write_text(f"127.0.0.1 localhost\n{names}", encoding="utf-8")
    _in(bed.switch, "ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", space)
    _in(bed.switch, "ip", "link", "set", port, "master", "bridge", "up")
    _in(space, "ip", "address", "add", f"{bed.address(host)}/24", "dev", "eth0")
    _in(space, "ip", "link", "set", "eth0", "up")
    _in(space, "ip", "link", "set", "lo", "up")


def limit(bed: Bed, rate: str) -> None:
    """Limit every link to `rate` in each direction, or change the limit."""
    burst = max(SMALLEST_BURST_BYTES, round(bits_per_second(rate) / 8 * BURST_SECONDS))
    bucket = ("root", "tbf", "rate", rate, "burst", str(burst), "latency", "50ms")
    for host in range(bed.hosts):
        _in(bed.namespace(host), "tc", "qdisc", "replace", "dev", "eth0", *bucket)
        _in(bed.switch, "tc", "qdisc", "replace", "dev", f"port{host}", *bucket)


def bits_per_second(rate: str) -> float:
    """A rate as tc writes it.

    >>> bits_per_second("200mbit")
    200000000.0
    """
    match = re.fullmatch(r"(\d+)([a-z]+)", rate)
    if match is None or match.group(2) not in UNITS:
        raise HpcDlError(f"rate {rate!r}", "not a rate as tc writes it", "write it as 200mbit or 1gbit")
    return float(match.group(1)) * UNITS[match.group(2)]


def cut(bed: Bed, host: int) -> None:
    """Take a host's link down, as a pulled cable does."""
    _in(bed.switch, "ip", "link", "set", f"port{host}", "down")


def mend(bed: Bed, host: int) -> None:
    """Bring a host's link up again."""
    _in(bed.switch, "ip", "link", "set", f"port{host}", "up")


def down(bed: Bed) -> None:
    """Take a bed away, whatever is left of it; processes in it are ended by their ids."""
    prefixes = (bed.switch, f"{bed.name}-host")
    for space in [name for name in existing() if name.startswith(prefixes)]:
        listing = _run("ip", "netns", "pids", space)
        for pid in listing.split():
            subprocess.run(("kill", "-9", pid), check=False, capture_output=True, timeout=10)
        _run("ip", "netns", "delete", space)
        shutil.rmtree(HOSTS_FOLDER / space, ignore_errors=True)


def existing() -> list[str]:
    """Names of all network namespaces."""
    return [line.split()[0] for line in _run("ip", "netns", "list").splitlines() if line.strip()]


def missing() -> str:
    """What stands against a test bed on this machine; empty where nothing does."""
    programs = [name for name in ("ip", "tc", "unshare") if shutil.which(name) is None]
    if programs:
        return f"no {', '.join(programs)} (Debian: iproute2, util-linux)"
    probe = subprocess.run(("unshare", "-n", "true"), capture_output=True, text=True, timeout=10, check=False)
    return f"no right to make network namespaces: {probe.stderr.strip()}" if probe.returncode else ""


def require() -> None:
    """Refuse to go on where a bed cannot stand."""
    if obstacle := missing():
        raise HpcDlError("test bed", obstacle, "run as root on Linux, in a container that may do so")


def _in(space: str, *words: str) -> str:
    return _run("ip", "netns", "exec", space, *words)


def _run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        raise HpcDlError(" ".join(words), done.stderr.strip() or f"exit code {done.returncode}", "look at the message")
    return done.stdout
