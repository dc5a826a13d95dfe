# SPDX-License-Identifier: Apache-2.0
"""No formula beats the lower bounds, and each agrees with a message-by-message reckoning of its algorithm."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc_dl.predict import collectives
from hpc_dl.predict.collectives import FLAT, Link, hierarchical, lower_bound

ranks = st.integers(1, 200_000)
sizes = st.floats(0, 1e10)
links = st.builds(Link, st.floats(0, 1e-3), st.floats(0, 1e-7), st.floats(0, 1e-8))


@given(st.sampled_from(sorted(FLAT)), ranks, sizes, links)
def test_no_formula_falls_below_a_bound(name: str, p: int, size: float, link: Link) -> None:
    seconds = FLAT[name](p, size, link)
    for bound in lower_bound(p, size, link):
        assert seconds >= bound * (1 - 1e-12)


@given(st.integers(1, 16), st.integers(1, 10_000), sizes, links, links)
def test_hierarchical_respects_the_bound_of_its_faster_link_and_of_its_network(
    per_node: int, nodes: int, size: float, inside: Link, across: Link
) -> None:
    seconds = hierarchical(per_node, nodes, size, inside, across)
    fast = Link(*map(min, zip(_triple(inside), _triple(across), strict=True)))
    for bound in lower_bound(per_node * nodes, size, fast):
        assert seconds >= bound * (1 - 1e-12)
    # Every node passes 2(N-1)/N n bytes through NICs that its ranks share.
    assert seconds >= 2 * (nodes - 1) / nodes * size * across.seconds_per_byte / per_node * (1 - 1e-12)


def _triple(link: Link) -> tuple[float, float, float]:
    return link.latency_seconds, link.seconds_per_byte, link.reduce_seconds_per_byte


@pytest.mark.parametrize("name", sorted(FLAT))
def test_one_rank_costs_nothing(name: str) -> None:
    assert FLAT[name](1, 1e6, Link(1e-5, 1e-9, 1e-10)) == 0


@pytest.mark.parametrize("p", [2, 3, 4, 7, 8, 12])
def test_ring_equals_a_simulated_ring(p: int) -> None:
    link, size = Link(3e-6, 1e-9, 2e-10), 1e6
    clock = 0.0
    for step in range(2 * (p - 1)):
        clock += link.latency_seconds + size / p * link.seconds_per_byte
        clock += size / p * link.reduce_seconds_per_byte if step < p - 1 else 0.0
    assert collectives.ring(p, size, link) == pytest.approx(clock)


@pytest.mark.parametrize("p", [2, 4, 8, 64])
def test_rabenseifner_equals_simulated_halving_and_doubling(p: int) -> None:
    link, size = Link(3e-6, 1e-9, 2e-10), 1e6
    clock, part = 0.0, size
    for _ in range(int(math.log2(p))):
        part /= 2
        clock += 2 * link.latency_seconds + part * (2 * link.seconds_per_byte + link.reduce_seconds_per_byte)
    assert collectives.rabenseifner(p, size, link) == pytest.approx(clock)


def test_ring_and_rabenseifner_cross_where_latency_says() -> None:
    """At 1024 ranks, 7 us and 12 GB/s a ring spends about 14 ms on latency, the bandwidth term of about 86 MB."""
    link = Link.of(7e-6, 12e9)
    latency = collectives.ring(1024, 0.0, link)
    assert latency == pytest.approx(14.3e-3, rel=0.01)
    assert collectives.ring(1024, 86e6, link) - latency == pytest.approx(latency, rel=0.01)
    assert collectives.rabenseifner(1024, 86e6, link) < 0.52 * collectives.ring(1024, 86e6, link)


def test_torus_takes_about_four_square_roots_of_p_steps() -> None:
    link = Link(1.0, 0.0)
    assert collectives.torus(1024, 1.0, link) == 4 * 31
    assert collectives.torus(13, 1.0, link) == collectives.ring(13, 1.0, link)


def test_hierarchical_on_one_node_is_a_ring_inside() -> None:
    inside, across = Link(1e-6, 1e-10), Link(1e-5, 1e-9)
    assert hierarchical(8, 1, 1e6, inside, across) == pytest.approx(collectives.ring(8, 1e6, inside))
    assert hierarchical(1, 8, 1e6, inside, across) == pytest.approx(collectives.ring(8, 1e6, across))
