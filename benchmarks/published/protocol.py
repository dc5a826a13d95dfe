# SPDX-License-Identifier: Apache-2.0
"""Both questions put to a table of published results, and the answer as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.published import cases as cases_module
from benchmarks.published.anchored import judge_anchored
from benchmarks.published.cases import Case
from benchmarks.published.table import read_table, shipped
from benchmarks.published.validate import Judged, Summary, judge, summaries, worst

PROTOCOL = """\
Protocol: {folds} folds over systems. The constants of the model are fitted to the systems of all other folds, their
intervals come from systems left out in the same way within those; no row of a tested system takes part. Calibrating:
{calibrating} points of {systems} systems. A row is tested at every size but its first, the baseline."""


@dataclass(frozen=True)
class Validation:
    """The outcome for one table."""

    protocol: str
    unseen: Sequence[Judged]
    """Every point, predicted from other systems alone."""
    next_size: Sequence[Judged]
    """The largest size of each series, predicted from its next smaller one and from other systems."""
    excluded: Mapping[str, str]
    """Rows that were not tested, with the reason."""

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values, for JSON."""
        questions = {"unseen_system": self.unseen, "next_size": self.next_size}
        return {
            "protocol": self.protocol,
            "excluded": dict(self.excluded),
            **{
                name: {
                    "summaries": {group: asdict(summary) for group, summary in summaries(judged).items()},
                    "points": [_point(one) for one in judged],
                }
                for name, judged in questions.items()
                if judged
            },
        }


def validate_table(path: Path | None, folds: int = 10) -> Validation:
    """Test the model on a table; None is that of `tables/`.

    The shipped results calibrate as well, except those of the systems under test.
    """
    built = cases_module.build(shipped() if path is None else read_table(path))
    calibrating = _together(built.cases, cases_module.build(shipped()).cases)
    text = PROTOCOL.format(
        folds=folds, calibrating=len(calibrating), systems=len({case.hardware.key for case in calibrating})
    )
    unseen = judge(calibrating, built.cases, folds)
    return Validation(text, unseen, judge_anchored(calibrating, built.cases, folds), built.excluded)


def _together(own: Sequence[Case], others: Sequence[Case]) -> list[Case]:
    names = {case.series for case in own}
    return [*own, *(case for case in others if case.series not in names)]


def as_text(validation: Validation) -> str:
    """The outcome as Markdown."""
    parts = [validation.protocol, ""]
    parts += ["## A system never seen, from its first point", "", *_table(summaries(validation.unseen))]
    if validation.next_size:
        parts += ["", "## The largest size of a series, its smaller sizes known", ""]
        parts += _table(summaries(validation.next_size))
    parts += ["", "## The ten series predicted worst (system never seen)", ""]
    parts += [
        "| Row | Ranks | Published | Predicted | 90 % interval | What the row says |",
        "|---|---|---|---|---|---|",
    ]
    parts += [_worst_row(one, why) for one, why in worst(validation.unseen)]
    parts += ["", f"Not tested ({len(validation.excluded)} rows):", ""]
    by_reason: dict[str, list[str]] = {}
    for name, why in validation.excluded.items():
        by_reason.setdefault(why, []).append(name)
    parts += [f"- {why}: {', '.join(names)}" for why, names in by_reason.items()]
    return "\n".join(parts)


def _table(groups: Mapping[str, Summary]) -> list[str]:
    """Errors in percentage points of efficiency."""
    head = (
        "| Group | Points | Systems | Median error | 90th percentile | Coverage of 90 % interval | Know-nothing model |"
    )
    rows = [head, "|---|---|---|---|---|---|---|"]
    for name, s in groups.items():
        nothing = f"{s.constant_error:.1%}, {s.constant_error_90:.1%}"
        rows.append(
            f"| {name} | {s.cases} | {s.systems} | {s.median_error:.1%} | {s.error_90:.1%} "
            f"| {s.coverage:.0%} | {nothing} |"
        )
    return rows


def _worst_row(one: Judged, why: str) -> str:
    interval = f"{one.low:.0%} to {one.high:.0%}"
    numbers = f"{one.case.efficiency:.1%} | {one.predicted:.1%} | {interval}"
    return f"| {one.case.series} | {one.case.target.ranks} | {numbers} | {why} |"


def _point(one: Judged) -> dict[str, Any]:
    case = one.case
    return {
        "row": case.series,
        "group": case.group,
        "system": case.hardware.key,
        "ranks": case.target.ranks,
        "baseline_ranks": case.base.ranks,
        "published": case.efficiency,
        "predicted": one.predicted,
        "low": one.low,
        "high": one.high,
        "assumed": list(case.assumed),
    }
