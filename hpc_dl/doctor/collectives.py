# SPDX-License-Identifier: Apache-2.0
"""Do ranks reach each other, fast and right; do their clocks agree; do they see one folder?"""

from __future__ import annotations

import socket
import statistics
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import torch

from hpc_dl.doctor.finding import Finding, Verdict
from hpc_dl.doctor.scene import Scene
from hpc_dl.session import Session

SMALL, LARGE = 256, 2 << 20
"""Numbers (float32) of the two reductions: 1 KB shows the latency, 8 MB the bandwidth."""
REPEATS = 7
POOR_SHARE = 0.1
"""Of the network card's rate: below it the transport is the wrong one (TCP gave 0.04 of it on Perlmutter)."""
SLOW_RANK = 2.0
"""A rank that takes so many times the median for the same sum on its own."""
CLOCKS_WARN_SECONDS, CLOCKS_FAIL_SECONDS = 0.1, 2.0
SEEN_WITHIN_SECONDS = 10.0
"""A network file system may show a new file to another node only after some seconds."""


def check_transport(session: Session, scene: Scene) -> list[Finding]:
    """The engine, what moves the bytes, and whether that fits device and network."""
    loopback = session.engine.gather(_own_address().startswith("127."))
    if session.arrivals is None or loopback is None:
        return []
    engine, device = session.engine, session.device.name
    text = f"engine {engine.name} over {engine.backend} for {device} ({engine.why})"
    if device != "cpu" and engine.backend in ("gloo", "mpi"):
        remedy = "use --exchange.engine torch, whose backend is made for the device (nccl, xccl)"
        return [Finding("transport", "warn", f"{text}: gradients go through host memory", remedy)]
    hosts = {arrival.place.host for arrival in session.arrivals}
    if engine.backend == "gloo" and len(hosts) > 1 and any(loopback):
        place = session.arrivals[loopback.index(True)].place
        found = f"{text}; the name of {place.host} resolves to a loopback address there, which other hosts cannot reach"
        remedy = "export GLOO_SOCKET_IFNAME=<network interface> on all ranks, or mend /etc/hosts"
        return [Finding("transport", "warn", found, remedy)]
    return [Finding("transport", "ok", text)]


def _own_address() -> str:
    try:
        return socket.gethostbyname(socket.gethostname())
    except OSError:
        return ""


def check_allreduce(session: Session, scene: Scene) -> list[Finding]:
    """Time and check the sum that training is going to do, small and large; the slowest rank counts."""
    size = session.world_size
    expected = size * (size + 1) / 2
    seconds, wrong = {}, []
    for numbers in (SMALL, LARGE):
        seconds[numbers], value = _time_reduction(session, numbers)
        if value != expected:
            wrong.append(value)
    gathered = session.engine.gather(wrong)
    if gathered is None or session.arrivals is None:
        return []
    bad = next((rank for rank, values in enumerate(gathered) if values), None)
    if bad is not None:
        host = session.arrivals[bad].place.host
        found = f"rank {bad} on {host} got {gathered[bad][0]:g} for a sum that is {expected:g}"
        return [Finding("allreduce", "fail", found, "do not train here: the transport corrupts data; tell the site")]
    rate = 2 * (size - 1) / size * LARGE * 4 / seconds[LARGE] / 1e9
    text = (
        f"{seconds[SMALL] * 1e6:.0f} us for 1 KB; {seconds[LARGE] * 1e3:.2f} ms for 8 MB, {rate:.2f} GB/s bus bandwidth"
    )
    hosts = {arrival.place.host for arrival in session.arrivals}
    card = scene.machine.node.nic_gigabytes_per_second
    if len(hosts) > 1 and rate < POOR_SHARE * card:
        remedy = (
            "the network's own transport is not in use: check NCCL_NET and FI_PROVIDER, and the site's plugin module"
        )
        return [Finding("allreduce", "warn", f"{text}; one network card does {card:g} GB/s", remedy)]
    return [Finding("allreduce", "ok", text)]


def _time_reduction(session: Session, numbers: int) -> tuple[float, float]:
    """Median seconds on the slowest rank, and the sum this rank got."""
    device = session.device
    times = []
    value = torch.empty(0)
    for _ in range(REPEATS):
        value = torch.full((numbers,), float(session.rank + 1), device=device.torch_device)
        device.synchronize()
        started = time.perf_counter()
        session.engine.reduce_async(value, "sum", f"doctor.{numbers}").wait()
        device.synchronize()
        times.append(time.perf_counter() - started)
    own = torch.tensor([statistics.median(times[1:])], dtype=torch.float64)
    slowest = session.engine.reduce(own, "max", "doctor.slowest")
    bad = value[value != session.world_size * (session.world_size + 1) / 2]
    return float(slowest), float(bad[0] if bad.numel() else value[0])


def check_speed(session: Session, scene: Scene) -> list[Finding]:
    """The same sum on every rank by itself: a rank far behind sits on a sick or shared node."""
    device = session.device
    matrix = torch.full((384, 384), 1 / 384, device=device.torch_device)
    best = min(_seconds(lambda: matrix @ matrix, device.synchronize) for _ in range(REPEATS + 3))
    gathered = session.engine.gather(best)
    if gathered is None or session.arrivals is None:
        return []
    median = statistics.median(gathered)
    slowest = max(range(len(gathered)), key=gathered.__getitem__)
    text = f"{median * 1e3:.2f} ms for one matrix product, {gathered[slowest] * 1e3:.2f} ms on the slowest rank"
    if gathered[slowest] > SLOW_RANK * median:
        host = session.arrivals[slowest].place.host
        remedy = "look for other work on that node; if it stays slow, leave the node out and tell the site"
        return [Finding("speed", "warn", f"{text}, rank {slowest} on {host}", remedy)]
    return [Finding("speed", "ok", text)]


def _seconds(work: Callable[[], object], synchronize: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    synchronize()
    return time.perf_counter() - started


def check_clocks(session: Session, scene: Scene) -> list[Finding]:
    """The ranks' clocks right after a barrier; the smallest spread of several tries is the clocks' own."""
    spreads = []
    for _ in range(REPEATS):
        session.engine.barrier()
        times = session.engine.gather(time.time())
        if times is not None:
            spreads.append((max(times) - min(times), times))
    if not spreads or session.arrivals is None:
        return []
    spread, times = min(spreads)
    verdict: Verdict = "fail" if spread > CLOCKS_FAIL_SECONDS else "warn" if spread > CLOCKS_WARN_SECONDS else "ok"
    text = f"the clocks agree within {spread * 1e3:.1f} ms"
    if verdict == "ok":
        return [Finding("clocks", verdict, text)]
    median = statistics.median(times)
    odd = max(range(len(times)), key=lambda rank: abs(times[rank] - median))
    found = f"the clocks differ by {spread:.1f} s; furthest off is rank {odd} on {session.arrivals[odd].place.host}"
    return [Finding("clocks", verdict, found, "tell the site: logs, deadlines and certificates go wrong on that node")]


def check_folder(session: Session, scene: Scene) -> list[Finding]:
    """A file that rank 0 writes into the run's folder is there for all ranks."""
    name = session.engine.broadcast(f".doctor-{uuid.uuid4().hex}")
    marker = scene.folder.absolute() / name
    created = False
    if session.rank == 0:
        try:
            created = not marker.parent.exists()
            marker.parent.mkdir(parents=True, exist_ok=True)
            marker.write_text(name)
        except OSError:
            name = ""
    if not session.engine.broadcast(name):
        return []  # the check of the place has said so
    seen = session.engine.gather(_appears(marker))
    if seen is None or session.arrivals is None:
        return []
    marker.unlink(missing_ok=True)
    if created:
        marker.parent.rmdir()
    if all(seen):
        return [Finding("shared folder", "ok", f"all ranks see {marker.parent}")]
    place = session.arrivals[seen.index(False)].place
    found = f"rank {place.rank} on {place.host} does not see what rank 0 writes in {marker.parent}"
    remedy = (
        "use a folder on the parallel file system: a local one holds checkpoints the other nodes cannot resume from"
    )
    return [Finding("shared folder", "fail", found, remedy)]


def _appears(path: Path) -> bool:
    deadline = time.monotonic() + SEEN_WITHIN_SECONDS
    while not path.exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
