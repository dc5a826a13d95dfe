# SPDX-License-Identifier: Apache-2.0
"""The test bed: hosts with names of their own, links no faster than asked, nothing left behind."""

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from hpc_dl.errors import HpcDlError
from testbed import launch, network
from testbed.network import Bed

pytestmark = pytest.mark.netns

WHO = """
import socket
from mpi4py import MPI
world = MPI.COMM_WORLD
names = world.gather(socket.gethostname())
if world.rank == 0:
    print(names)
"""
SEND = """
import time
import numpy as np
from mpi4py import MPI
world = MPI.COMM_WORLD
buffer = np.ones(5_000_000, np.uint8)
world.Barrier()
start = time.perf_counter()
world.Bcast(buffer)
world.Barrier()
if world.rank == 0:
    print("seconds", time.perf_counter() - start)
"""


def test_ranks_are_on_hosts_of_their_own(make_bed: Callable[[int, str], Bed]) -> None:
    bed = make_bed(3, "")
    done = launch.run(bed, 3, [sys.executable, "-c", WHO], os.environ, timeout_seconds=60)
    assert done.returncode == 0, done.stdout
    assert "['host0', 'host1', 'host2']" in done.stdout


def test_bytes_go_over_the_limited_link(make_bed: Callable[[int, str], Bed]) -> None:
    """5 MB at 100 Mbit/s last 0.4 s; through shared memory they would last a few milliseconds."""
    bed = make_bed(2, "100mbit")
    done = launch.run(bed, 2, [sys.executable, "-c", SEND], os.environ, timeout_seconds=60)
    seconds = float(done.stdout.split("seconds")[1])
    assert seconds > 0.9 * 5e6 * 8 / 100e6
    assert seconds < 4.0


def test_a_cut_link_parts_two_hosts(make_bed: Callable[[int, str], Bed]) -> None:
    bed = make_bed(2, "")
    reach = [*launch.inside(bed, 0), sys.executable, "-c", "import socket; socket.create_connection(('host1', 9), 1)"]
    refused = subprocess.run(reach, capture_output=True, text=True, timeout=20, check=False)
    assert "ConnectionRefusedError" in refused.stderr
    network.cut(bed, 1)
    lost = subprocess.run(reach, capture_output=True, text=True, timeout=20, check=False)
    assert "ConnectionRefusedError" not in lost.stderr
    assert lost.returncode != 0
    network.mend(bed, 1)


def test_down_leaves_nothing_and_up_twice_is_refused(make_bed: Callable[[int, str], Bed]) -> None:
    bed = make_bed(2, "1gbit")
    with pytest.raises(HpcDlError, match="up already"):
        network.up(bed)
    network.down(bed)
    assert not [name for name in network.existing() if name.startswith(bed.name)]
    assert not list(network.HOSTS_FOLDER.glob(f"{bed.name}-*"))


def test_a_command_that_hangs_is_ended(make_bed: Callable[[int, str], Bed]) -> None:
    bed = make_bed(2, "")
    done = launch.run(bed, 2, ["sleep", "100"], os.environ, timeout_seconds=3)
    assert done.returncode == -9
    assert "ended after 3 seconds" in done.stdout


@pytest.mark.usefixtures("make_bed")
def test_one_command_brings_a_bed_up_runs_and_takes_it_down() -> None:
    name = f"t{os.getpid()}once"
    words = [sys.executable, "-m", "testbed", "--name", name, "--hosts", "2", "--rate", "1gbit", "once", "hostname"]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    assert sorted(ended.stdout.split()) == ["host0", "host1"]
    assert not [space for space in network.existing() if space.startswith(name)]
