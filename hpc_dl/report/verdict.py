# SPDX-License-Identifier: Apache-2.0
"""The report in a few sentences."""

from __future__ import annotations

from hpc_dl.report.study import Study
from hpc_dl.report.tables import CAUSE_WORDS
from hpc_dl.report.words import interval, percent, points_lost
from hpc_dl.scaling.efficiency import Size

RULES = {"weak": "Weak scaling", "strong": "Strong scaling", "one size": "One size", "unstated": "Scaling"}
WORTH_NAMING = 0.005
"""A loss below half a point is not named."""


def size_words(size: Size) -> str:
    """A size in words."""
    ranks = "1 rank" if size.world_size == 1 else f"{size.world_size:,} ranks"
    nodes = "1 node" if size.nodes == 1 else f"{size.nodes:,} nodes"
    return f"{ranks} on {nodes}"


def heading(study: Study) -> str:
    """What is compared, in a line: the kind of scaling and the baseline."""
    batch = study.baseline.header
    rule = {"weak": f" ({batch.local_batch:,} samples a rank)", "strong": f" ({batch.global_batch:,} samples a step)"}
    kind = RULES[study.scaling] + (rule.get(study.scaling, "") if batch.global_batch else "")
    return f"{kind}; efficiency against {size_words(study.baseline)}; 95 % intervals in brackets"


def verdict(study: Study) -> str:
    """How far it scales, in a sentence."""
    last = study.points[-1]
    if study.scaling == "one size":
        return (
            f"{size_words(last.size)}: {interval(last.throughput)} samples per second. Efficiency needs runs of a "
            "second size."
        )
    return (
        f"{RULES[study.scaling]} from {size_words(study.baseline)} to {size_words(last.size)} keeps "
        f"{percent(last.efficiency)} of the efficiency. {_blame(study)}".rstrip()
    )


def _blame(study: Study) -> str:
    """Where the largest size lost most."""
    lost = study.losses[-1]
    named = sorted((cause for cause in lost if lost[cause] >= WORTH_NAMING), key=lambda cause: -lost[cause])[:2]
    if not named or study.points[-1].efficiency.value >= 1:
        return ""
    parts = " and ".join(f"{points_lost(lost[cause])} went to {CAUSE_WORDS[cause]}" for cause in named)
    return f"Of the {points_lost(1 - study.points[-1].efficiency.value)} points lost, {parts}."


def advice(study: Study) -> str:
    """How many nodes to use."""
    found = study.recommendation
    target = f"{100 * found.target:g} %"
    if study.scaling == "one size":
        return ""
    if found.point is None:
        return f"No measured size keeps {target} of the baseline's efficiency."
    if found.point.size is study.baseline and not found.open_ended:
        return f"No larger size measured keeps {target} of the efficiency of {size_words(study.baseline)}."
    words = f"To keep {target} of the efficiency, use up to {size_words(found.point.size)}"
    if not found.certain and found.point.size is not study.baseline:
        words += ", with a doubt: its interval reaches below"
    if found.open_ended:
        words += f"; that is the largest size measured, and {_beyond(study)}"
    return words + "."


def _beyond(study: Study) -> str:
    """What is known of the next larger size."""
    last = study.points[-1].size.world_size
    larger = [ahead for ahead in study.outlook.points if ahead.world_size > last]
    if not larger:
        return "a larger one may do as well"
    return f"for {larger[0].world_size:,} ranks {percent(larger[0].efficiency)} are predicted"
