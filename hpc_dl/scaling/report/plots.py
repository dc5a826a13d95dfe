# SPDX-License-Identifier: Apache-2.0
"""The pictures of a report."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator, PercentFormatter

from hpc_dl.scaling.report.svg import COLOURS, canvas
from hpc_dl.scaling.statistics import Estimate
from hpc_dl.scaling.study import Study


def efficiency(study: Study) -> str:
    """Efficiency with intervals over the number of ranks, and the ideal line."""
    ranks = [point.size.world_size for point in study.points]
    with canvas("efficiency", "Efficiency with 95 % intervals over the number of ranks") as drawing:
        axes = drawing.axes
        axes.axhline(1.0, color=COLOURS["muted"], linestyle="--", linewidth=1, label="ideal")
        _with_intervals(axes, ranks, [point.efficiency for point in study.points])
        highest = max(1.0, *(_top(point.efficiency) for point in study.points))
        axes.set_ylim(0, 1.08 * highest)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_ylabel("Efficiency")
        _rank_axis(axes, ranks)
    return drawing.svg


def throughput(study: Study) -> str:
    """Throughput over the number of ranks on logarithmic axes, with the ideal line through the baseline."""
    ranks = [point.size.world_size for point in study.points]
    per_rank = 1 / (study.baseline.cost.value * study.baseline.world_size)
    with canvas("throughput", "Samples per second over the number of ranks") as drawing:
        axes = drawing.axes
        ideal = [per_rank * n for n in ranks]
        axes.plot(ranks, ideal, color=COLOURS["muted"], linestyle="--", linewidth=1, label="ideal")
        _with_intervals(axes, ranks, [point.throughput for point in study.points])
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_ylabel("Samples per second")
        _rank_axis(axes, ranks)
    return drawing.svg


def _with_intervals(axes: Axes, ranks: Sequence[int], estimates: Sequence[Estimate]) -> None:
    below = [e.value - e.low if e.known else 0.0 for e in estimates]
    above = [e.high - e.value if e.known else 0.0 for e in estimates]
    values = [e.value for e in estimates]
    axes.errorbar(
        ranks,
        values,
        yerr=[below, above],
        color=COLOURS["accent"],
        marker="o",
        markersize=4,
        capsize=3,
        label="measured",
    )


def _top(estimate: Estimate) -> float:
    return estimate.value if math.isnan(estimate.high) else min(estimate.high, 2 * estimate.value)


def _rank_axis(axes: Axes, ranks: Sequence[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    if len(ranks) <= 10:
        axes.set_xticks(list(ranks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("Ranks")
    axes.legend(loc="best")
