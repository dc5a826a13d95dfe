# SPDX-License-Identifier: Apache-2.0
"""What a reader has to know before believing a study: one function per doubt, all of them asked every time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from hpc_dl.report import split_doubts
from hpc_dl.report.note import Note
from hpc_dl.runlog.records import Run
from hpc_dl.scaling.comparable import name_some
from hpc_dl.scaling.runs import label

if TYPE_CHECKING:
    from hpc_dl.report.study import Findings

FEWEST_STEPS = 100
"""Steps per size that calls for computing time ask for; 50 to 100 steps are usual for warm-up alone."""
FULL_BATCH = 0.95
APART = 1.15
"""Repeats further apart than this are more than noise; on shared systems runs of one job fall into clusters 25 to 30 %
apart (published examples)."""
LINEAR_LIMIT = 8192
"""Samples up to which plain SGD with a linearly scaled rate and warm-up kept the accuracy of ResNet-50 (Goyal et al.,
Accurate, Large Minibatch SGD, 2017); optimizers with a rate per layer (LARS, LAMB) were made for more."""
FEWEST_STEPS_PER_EPOCH = 50


def caveats(findings: Findings) -> tuple[Note, ...]:
    """All notes, problems first."""
    doubts = [doubt for doubt in DOUBTS if not findings.collection.table or doubt not in NEED_A_LOG]
    notes = [note for doubt in doubts for note in doubt(findings)]
    order = ("problem", "question", "remark")
    return tuple(sorted(notes, key=lambda note: order.index(note.level)))


def _left_out(findings: Findings) -> Iterator[Note]:
    for reason in findings.collection.left_out[:20]:
        yield Note("problem", f"Left out: {reason}.")
    more = len(findings.collection.left_out) - 20
    if more > 0:
        yield Note("problem", f"Left out: {more} more.")


def _broken_lines(findings: Findings) -> Iterator[Note]:
    broken = findings.collection.broken
    if broken:
        rest = f"; and {len(broken) - 10} more" if len(broken) > 10 else ""
        lines = "1 log line" if len(broken) == 1 else f"{len(broken)} log lines"
        yield Note("problem", f"{lines} could not be read: {'; '.join(broken[:10])}{rest}.")


def _of_a_table(findings: Findings) -> Iterator[Note]:
    table = findings.collection.table
    single = [
        f"{point.size.world_size:,}"
        for point in findings.points
        if table and len(point.size.runs) == len(point.size.runs[0].windows) == 1 and point.size.basis == "windows"
    ]
    if single:
        yield Note("problem", f"One row only at ranks {name_some(single)}: nothing is known of its error.")
    if table:
        yield Note(
            "remark",
            f"From {table}, which says nothing of steps, model, software and hosts: whether these are the same was not "
            "checked. Rows of one size and name are taken for the windows of one run.",
        )


def _unsettled(findings: Findings) -> Iterator[Note]:
    runs = [measured.run for measured in findings.measured if not measured.settled]
    if runs:
        yield Note(
            "problem",
            f"No steady state in {_runs(runs)}: the first half of the windows is unlike the second, and was left out. "
            "Run longer.",
        )


def _few_steps(findings: Findings) -> Iterator[Note]:
    short = [
        f"{point.size.world_size:,} ({min(measured.steps for measured in point.size.runs)} steps)"
        for point in findings.points
        if min(measured.steps for measured in point.size.runs) < FEWEST_STEPS
    ]
    if short:
        yield Note("problem", f"Fewer than {FEWEST_STEPS} measured steps in a run at these ranks: {name_some(short)}.")


def _unsteady_revision(findings: Findings) -> Iterator[Note]:
    for difference in findings.environment.differing:
        if difference.fact == "git_revision" or difference.fact.startswith("versions."):
            groups = "; ".join(f"{value}: {_runs(runs)}" for value, runs in difference.values)
            yield Note("problem", f"The runs differ in {difference.fact}: {groups}.")


def _jobs_not_covered(findings: Findings) -> Iterator[Note]:
    sizes = [point.size for point in findings.points]
    once = [f"{size.world_size:,}" for size in sizes if size.basis == "windows" and size.cost.freedom]
    if once:
        yield Note(
            "remark",
            f"One run only at ranks {name_some(once)}: the interval covers variation within that job; variation from "
            "job to job, such as placement, is not covered. Repeat whole jobs, five times where you can.",
        )
    borrowed = [f"{size.world_size:,}" for size in sizes if size.basis == "borrowed"]
    if borrowed:
        yield Note(
            "remark",
            f"One run only at ranks {name_some(borrowed)}: the interval there takes the spread from job to job, in per "
            "cent, from the sizes with repeats.",
        )
    few = [f"{size.world_size:,} ({len(size.runs)})" for size in sizes if 1 < len(size.runs) < 4]
    if few:
        yield Note("remark", f"Few repeats make wide intervals; ranks (runs): {name_some(few)}.")


def _clusters(findings: Findings) -> Iterator[Note]:
    for point in findings.points:
        costs = [measured.cost.value for measured in point.size.runs]
        if max(costs) > APART * min(costs):
            yield Note(
                "question",
                f"The runs at {point.size.world_size:,} ranks differ by {100 * (max(costs) / min(costs) - 1):.0f} %: "
                "look at their nodes; a shared network or one slow node is the usual cause.",
            )


def _over_one(findings: Findings) -> Iterator[Note]:
    for point in findings.points:
        if point.efficiency.value > 1:
            sure = point.efficiency.known and point.efficiency.low > 1
            yield Note(
                "question" if sure else "remark",
                f"Efficiency over 1 at {point.size.world_size:,} ranks"
                + (
                    ": a question, not a result. Look for its cause: a slow baseline, or data that fit in memory now."
                    if sure
                    else " within its interval: not to be told from 1."
                ),
            )


def _warmup_found(findings: Findings) -> Iterator[Note]:
    found = [measured for measured in findings.measured if measured.warmup_found and measured.settled]
    if found:
        names = name_some([f"{label(measured.run)} ({measured.warmup_found})" for measured in found])
        yield Note(
            "remark",
            f"Beyond the marked warm-up these runs were not yet steady; windows left out in brackets: {names}.",
        )


def _outliers(findings: Findings) -> Iterator[Note]:
    count = sum(len(measured.outliers) for measured in findings.measured)
    if count:
        total = sum(len(measured.windows) for measured in findings.measured)
        yield Note("remark", f"{count:,} of {total:,} windows are outliers; they are shown, and count like all others.")


def _cut_short(findings: Findings) -> Iterator[Note]:
    runs = [m.run for m in findings.measured if m.run.end is None]
    if runs:
        yield Note("remark", f"Did not reach their end: {_runs(runs)}. The windows they wrote count.")


def _smaller_batches(findings: Findings) -> Iterator[Note]:
    shares = [(p.size.world_size, p.size.mean_batch / p.size.header.global_batch) for p in findings.points]
    small = [f"{ranks:,} ({100 * share:.0f} %)" for ranks, share in shares if share < FULL_BATCH]
    if small:
        yield Note(
            "question",
            "The last batch of each epoch is small; the mean step, in per cent of a full global batch, at ranks "
            f"{name_some(small)}. For a scaling study set training.drop_last, or use more data.",
        )


def _large_batch(findings: Findings) -> Iterator[Note]:
    header = findings.points[-1].size.header
    optimizer = str(header.settings.get("optimizer", {}).get("name", ""))
    if header.global_batch > LINEAR_LIMIT and optimizer not in ("lars", "lamb"):
        yield Note(
            "question",
            f"A global batch of {header.global_batch:,}: a linearly scaled learning rate has been shown to keep the "
            f"accuracy up to about {LINEAR_LIMIT:,} images. Check the accuracy, or try lars or lamb.",
        )
    grew = header.global_batch > findings.points[0].size.header.global_batch
    if grew and header.epoch_samples / header.global_batch < FEWEST_STEPS_PER_EPOCH and header.epoch_samples:
        yield Note(
            "question",
            f"An epoch at {header.world_size:,} ranks is {header.epoch_samples / header.global_batch:.1f} steps: large "
            "batches may need more epochs for the same accuracy, and these figures count samples, not accuracy.",
        )


def _runs(runs: Sequence[Run]) -> str:
    return name_some([label(run) for run in runs])


NEED_A_LOG = (_few_steps, _smaller_batches, _large_batch, _cut_short)
DOUBTS: tuple[Callable[[Findings], Iterator[Note]], ...] = (
    _left_out,
    _broken_lines,
    _of_a_table,
    _unsettled,
    _few_steps,
    _unsteady_revision,
    _over_one,
    _clusters,
    split_doubts.exchange_unmeasured,
    split_doubts.stragglers,
    split_doubts.unaccounted,
    _smaller_batches,
    _large_batch,
    _jobs_not_covered,
    _warmup_found,
    _outliers,
    _cut_short,
)
