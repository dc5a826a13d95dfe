# SPDX-License-Identifier: Apache-2.0
"""The pictures of a report, each a function from a study to an <svg> element."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator, PercentFormatter

from hpc_dl.predict.outlook import PERCENT
from hpc_dl.report.proposal import proposal
from hpc_dl.report.study import Study
from hpc_dl.report.svg import COLOURS, PART_COLOURS, canvas
from hpc_dl.scaling.efficiency import Point
from hpc_dl.scaling.split import PARTS
from hpc_dl.scaling.statistics import Estimate
from hpc_dl.scaling.steady import window_costs

MOST_TICKS = 9
MOST_OUTLIERS = 60
IDEAL: dict[str, Any] = {"color": COLOURS["muted"], "linestyle": "--", "linewidth": 1.0, "label": "ideal"}
MEASURED: dict[str, Any] = {
    "color": COLOURS["accent"],
    "marker": "o",
    "markersize": 4,
    "capsize": 3,
    "label": "measured",
}


def efficiency(study: Study) -> str:
    """Efficiency with intervals over the number of ranks, the ideal and the efficiency to keep."""
    ranks = [point.size.world_size for point in study.points]
    with canvas("efficiency", "Efficiency with 95 % intervals over the number of ranks") as drawing:
        axes = drawing.axes
        axes.axhline(1.0, **IDEAL)
        target = study.question.target
        axes.axhline(target, color=COLOURS["muted"], linestyle=":", linewidth=1, label=f"{100 * target:g} %, to keep")
        _with_intervals(axes, ranks, [point.efficiency for point in study.points])
        _band(axes, study)
        axes.set_ylim(0, 1.08 * max(1.0, *(_top(point.efficiency) for point in study.points)))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_title("Efficiency")
        _doubling_axis(axes, sorted({*ranks, *(ahead.world_size for ahead in study.outlook.points)}), "Ranks")
        axes.legend(loc="lower left")
    return drawing.svg


def throughput(study: Study) -> str:
    """Throughput over the number of ranks on logarithmic axes, with the ideal line through the baseline."""
    per_rank = 1 / (study.baseline.cost.value * study.baseline.world_size)
    ranks = [point.size.world_size for point in study.points]
    with canvas("throughput", "Samples per second over the number of ranks") as drawing:
        axes = drawing.axes
        axes.plot(ranks, [per_rank * count for count in ranks], **IDEAL)
        _with_intervals(axes, ranks, [point.throughput for point in study.points])
        _logarithmic(axes)
        axes.set_title("Samples per second")
        _doubling_axis(axes, ranks, "Ranks")
        axes.legend(loc="upper left")
    return drawing.svg


def nodes(study: Study) -> str:
    """Speed-up over nodes with the ideal line, for a proposal."""
    found = proposal(study)
    chosen: Sequence[Point] = found.points if found else ()
    counts = [point.size.nodes for point in chosen]
    with canvas("nodes", "Speed-up over the number of nodes") as drawing:
        axes = drawing.axes
        axes.plot(counts, [point.ideal_speedup for point in chosen], **IDEAL)
        _with_intervals(axes, counts, [point.speedup for point in chosen])
        axes.set_yscale("log", base=2)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.4g}"))
        axes.set_title(f"Speed-up over {counts[0]:,} node{'s' if counts[0] > 1 else ''}")
        _doubling_axis(axes, counts, "Nodes")
        axes.legend(loc="upper left")
    return drawing.svg


def split(study: Study) -> str:
    """Rank-seconds per sample by part, the baseline's sum as 1."""
    found = [item for item in study.splits if item.seconds]
    whole = study.baseline.cost.value * study.baseline.world_size
    names = [f"{item.size.world_size:,}" for item in found]
    with canvas("split", "Parts of a step by size, in rank-seconds per sample") as drawing:
        axes = drawing.axes
        below = np.zeros(len(found))
        for part in PARTS:
            height = np.array([item.per_sample(part) / whole for item in found])
            axes.bar(names, height, bottom=below, width=0.62, color=PART_COLOURS[part], label=part)
            below += height
        axes.axhline(1.0, color=COLOURS["muted"], linestyle="--", linewidth=1)
        axes.set_title("Cost of a sample, baseline = 1")
        axes.set_xlabel("Ranks")
        axes.grid(axis="x", visible=False)
        axes.figure.legend(loc="outside lower center", ncols=4)
    return drawing.svg


def spread(study: Study) -> str:
    """Windows by size: seconds per sample against the size's median."""
    boxes = [_box(point) for point in study.points]
    with canvas("spread", "Spread of the windows by size") as drawing:
        axes = drawing.axes
        line = {"color": COLOURS["accent"]}
        axes.bxp(
            boxes,
            widths=0.4,
            boxprops=line,
            whiskerprops=line,
            capprops=line,
            medianprops={"color": COLOURS["ink"]},
            flierprops={"marker": "o", "markersize": 3, "markeredgecolor": COLOURS["warm"], "markerfacecolor": "none"},
        )
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
        axes.set_title("Seconds per sample, median of the size = 100 %")
        axes.set_xlabel("Ranks")
        axes.grid(axis="x", visible=False)
    return drawing.svg


def _box(point: Point) -> dict[str, object]:
    costs = np.concatenate([window_costs(measured.windows) for measured in point.size.runs])
    costs /= np.median(costs)
    lower, middle, upper = np.quantile(costs, [0.25, 0.5, 0.75])
    reach = 1.5 * (upper - lower)
    inside = costs[(costs >= lower - reach) & (costs <= upper + reach)]
    beyond = costs[(costs < lower - reach) | (costs > upper + reach)]
    furthest = beyond[np.argsort(-np.abs(beyond - middle))][:MOST_OUTLIERS]
    return {
        "label": f"{point.size.world_size:,}",
        "q1": lower,
        "med": middle,
        "q3": upper,
        "whislo": inside.min(),
        "whishi": inside.max(),
        "fliers": furthest,
    }


def _with_intervals(axes: Axes, places: Sequence[int], estimates: Sequence[Estimate]) -> None:
    below = [e.value - e.low if e.known else 0.0 for e in estimates]
    above = [min(e.high, 3 * e.value) - e.value if e.known else 0.0 for e in estimates]
    axes.errorbar(places, [e.value for e in estimates], yerr=[below, above], **MEASURED)


def _band(axes: Axes, study: Study) -> None:
    """Predicted efficiency beyond the measured sizes, with its interval."""
    ahead = study.outlook.points
    if not ahead:
        return
    ranks = [point.world_size for point in ahead]
    low, value, high = zip(*((e.efficiency.low, e.efficiency.value, e.efficiency.high) for e in ahead), strict=True)
    axes.fill_between(ranks, low, high, color=COLOURS["warm"], alpha=0.18, linewidth=0)
    axes.plot(ranks, value, color=COLOURS["warm"], linewidth=1.4, label=f"predicted, {PERCENT} %")


def _top(estimate: Estimate) -> float:
    return min(estimate.high, 1.5 * estimate.value) if estimate.known else estimate.value


def _logarithmic(axes: Axes) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _doubling_axis(axes: Axes, places: Sequence[int], name: str) -> None:
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    every = -(-len(places) // MOST_TICKS)
    axes.set_xticks(list(places[::every]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(name)


PLOTS: dict[str, Callable[[Study], str]] = {
    "efficiency": efficiency,
    "throughput": throughput,
    "split": split,
    "spread": spread,
    "nodes": nodes,
}
