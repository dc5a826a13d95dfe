# SPDX-License-Identifier: Apache-2.0
"""Numbers as a reader sees them."""

from __future__ import annotations

import math

import pytest

from hpc_dl.report import words
from hpc_dl.report.table import Table, as_markdown, as_text
from hpc_dl.scaling.statistics import Estimate


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (1e-9, "0.00000000100"), (0.0995, "0.0995"), (999.6, "1,000"), (-12.345, "-12.3"), (math.nan, "–")],
)
def test_numbers(value: float, shown: str) -> None:
    assert words.number(value) == shown


def test_an_interval_too_narrow_to_show_is_not_shown() -> None:
    assert words.interval(Estimate(1.0, 0.999999, 1.000001)) == "1.00"
    assert words.interval(Estimate(1.0, math.nan, math.nan)) == "1.00"
    assert words.percent(Estimate(0.5, 0.4, 0.6)) == "50.0 % (40.0–60.0)"


def test_a_table_prints_the_same_cells_everywhere() -> None:
    table = Table(("Name", "Value"), (("a|b", "1"), ("long name", "23")), "Caption.", words=1)
    assert as_text(table).splitlines() == ["Name       Value", "a|b            1", "long name     23"]
    assert as_markdown(table).splitlines()[2:] == [
        "| Name | Value |",
        "| --- | ---: |",
        "| a\\|b | 1 |",
        "| long name | 23 |",
    ]
