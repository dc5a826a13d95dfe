# SPDX-License-Identifier: Apache-2.0
"""A PBS site of two nodes for each test that asks for one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from standin.login import Login
from standin.site import Site


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[Callable[..., Login]]:
    """Builds a site and gives a seat on its login node; jobs left over are deleted at the end."""
    seats: list[Login] = []

    def make(**values: Any) -> Login:
        directory = tmp_path / f"project{len(seats)}"
        directory.mkdir()
        site = Site(tmp_path / f"site{len(seats)}", **{"kill_delay_seconds": 1.0, **values}).create()
        seats.append(Login(site, directory))
        return seats[-1]

    yield make
    for seat in seats:
        seat.leave()


@pytest.fixture
def login(make_site: Callable[..., Login]) -> Login:
    """A seat on the default site."""
    return make_site()
