# SPDX-License-Identifier: Apache-2.0
"""A comparison in words, as a table and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

from hpc_dl.report import words
from hpc_dl.report.data import ends
from hpc_dl.report.table import Table, as_markdown, as_text
from hpc_dl.scaling.compare import Comparison, Pair
from hpc_dl.scaling.runs import label
from hpc_dl.scaling.split import PARTS
from hpc_dl.scaling.statistics import Estimate, inverse


def write(comparison: Comparison, folder: Path) -> list[Path]:
    """Write comparison.md and comparison.json into `folder`; the paths written."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {"comparison.md": markdown(comparison), "comparison.json": json_text(comparison)}
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in texts]


def terminal(comparison: Comparison) -> str:
    """What a terminal shows."""
    return "\n".join(
        [as_text(ratio_table(comparison)), "", *sentences(comparison), "", as_text(split_table(comparison))]
    )


def markdown(comparison: Comparison) -> str:
    """The comparison as a Markdown page."""
    tables = [as_markdown(table(comparison)) for table in (ratio_table, split_table, change_table)]
    lines = "\n".join(f"- {sentence}" for sentence in sentences(comparison))
    return "\n\n".join(["# Comparison", lines, *tables]) + "\n"


def sentences(comparison: Comparison) -> list[str]:
    """One verdict per size, and what was left out."""
    found = [sentence(pair) for pair in comparison.pairs]
    for side, name in zip(comparison.sides, ("before", "after"), strict=True):
        found += [f"Left out {name}: {reason}." for reason in side.left_out]
        if side.broken:
            found.append(f"{len(side.broken)} log lines {name} could not be read: {'; '.join(side.broken[:10])}.")
    return found


def sentence(pair: Pair) -> str:
    """Whether the change is real."""
    ranks = pair.before.size.world_size
    place = f"At {ranks:,} ranks" if ranks > 1 else "At 1 rank"
    if not pair.ratio.known:
        return f"{place}: too few windows for an interval; nothing can be said."
    size, change = f"{100 * abs(pair.ratio.value - 1):.1f} %", _change(pair.ratio)
    if pair.verdict == "not shown":
        return (
            f"{place}: no change shown; {change} includes none. These runs can show changes of about {_visible(pair)}."
        )
    if pair.covers_jobs:
        return f"{place}: the change is real; after is {size} {pair.verdict} ({change})."
    return (
        f"{place}: after is {size} {pair.verdict} ({change}), but one job on a side cannot tell the change from "
        "another placement: repeat whole jobs on both sides."
    )


def _change(ratio: Estimate) -> str:
    return f"{100 * (ratio.low - 1):+.1f} to {100 * (ratio.high - 1):+.1f} %"


def _visible(pair: Pair) -> str:
    return f"{50 * (pair.ratio.high - pair.ratio.low):.1f} %"


def ratio_table(comparison: Comparison) -> Table:
    """Throughput before and after."""
    rows = tuple(
        (
            f"{pair.before.size.world_size:,}",
            f"{len(pair.before.size.runs)} / {len(pair.after.size.runs)}",
            words.interval(inverse(pair.before.size.cost)),
            words.interval(inverse(pair.after.size.cost)),
            words.interval(pair.ratio),
            pair.verdict,
        )
        for pair in comparison.pairs
    )
    return Table(("Ranks", "Runs", "Samples/s before", "Samples/s after", "After / before", "Verdict"), rows)


def split_table(comparison: Comparison) -> Table:
    """Milliseconds per step by part, before and after."""
    rows = []
    for pair in comparison.pairs:
        if not (pair.before.seconds and pair.after.seconds):
            continue
        for part in PARTS:
            before, after = (1000 * side.seconds[part] for side in (pair.before, pair.after))
            rows.append(
                (f"{pair.before.size.world_size:,}", part, f"{before:.3f}", f"{after:.3f}", f"{after - before:+.3f}")
            )
    return Table(("Ranks", "Part", "Before (ms)", "After (ms)", "Change (ms)"), tuple(rows))


def change_table(comparison: Comparison) -> Table:
    """What differs between the runs: the change itself should be here."""
    before = set(map(id, comparison.sides[0].runs))
    rows = []
    for difference in comparison.changed:
        for value, runs in difference.values:
            old = sum(id(run) in before for run in runs)
            rows.append((difference.fact, value, f"{old}", f"{len(runs) - old}"))
    return Table(("Fact", "Value", "Runs before", "Runs after"), tuple(rows), words=2)


def json_text(comparison: Comparison) -> str:
    """The same for programs."""
    plain = {
        "version": 1,
        "sizes": [
            {
                "ranks": pair.before.size.world_size,
                "nodes": pair.before.size.nodes,
                "runs_before": [label(measured.run) for measured in pair.before.size.runs],
                "runs_after": [label(measured.run) for measured in pair.after.size.runs],
                **ends("ratio", pair.ratio),
                "verdict": pair.verdict,
                "covers_jobs": pair.covers_jobs,
                "seconds_before": pair.before.seconds,
                "seconds_after": pair.after.seconds,
            }
            for pair in comparison.pairs
        ],
        "changed": {difference.fact: [value for value, _ in difference.values] for difference in comparison.changed},
    }
    return json.dumps(plain, indent=1, allow_nan=False)
