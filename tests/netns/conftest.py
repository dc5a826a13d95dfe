# SPDX-License-Identifier: Apache-2.0
"""A test bed for a test; where it cannot stand, the test is skipped, except in CI, where that is a failure."""

import os
from collections.abc import Callable, Iterator

import pytest

from testbed import network
from testbed.network import Bed


@pytest.fixture
def make_bed() -> Iterator[Callable[[int, str], Bed]]:
    """A function (hosts, rate) -> bed; the beds are taken down after the test."""
    obstacle = network.missing()
    if obstacle and os.environ.get("CI"):
        pytest.fail(f"CI has to run this test, but: {obstacle}")
    if obstacle:
        pytest.skip(obstacle)
    beds: list[Bed] = []

    def make(hosts: int, rate: str) -> Bed:
        bed = Bed(f"t{os.getpid()}b{len(beds)}", hosts)
        beds.append(bed)
        network.up(bed, rate)
        return bed

    yield make
    for bed in beds:
        network.down(bed)
