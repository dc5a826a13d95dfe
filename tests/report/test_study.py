# SPDX-License-Identifier: Apache-2.0
"""What a study says beyond its table: verdict, advice, costs, doubts, evidence for a proposal."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpc_dl.errors import HpcDlError
from hpc_dl.report import data, markdown, verdict
from hpc_dl.report.proposal import proposal
from hpc_dl.report.study import Question, Study, build_study, read_study
from hpc_dl.runlog.records import Evaluation, Run
from hpc_dl.runlog.sinks import LogWriter
from hpc_dl.scaling.runs import Collection
from tests.scaling import synthetic

NOISE = [1.0, 1.01, 0.99, 1.0, 1.02, 0.98, 1.0, 1.01, 0.99, 1.0, 1.0, 1.01]


def make(
    efficiencies: dict[int, float],
    repeats: int = 5,
    question: Question | None = None,
    change: Callable[[Run], Run] = lambda run: run,
    **fields: Any,
) -> Study:
    """A study in memory; jobs differ by up to 1 %."""
    runs = []
    for ranks, efficiency in efficiencies.items():
        for repeat in range(repeats):
            head = synthetic.header(ranks, run_id=f"r{ranks}-{repeat}", **fields)
            job = 1 + 0.01 * (repeat - (repeats - 1) / 2) / max(1, repeats - 1)
            runs.append(change(synthetic.run(head, [0.5 * job / efficiency * noise for noise in NOISE])))
    return build_study(Collection(tuple(runs), (), ()), question or Question())


def texts(study: Study, level: str) -> str:
    return " | ".join(note.text for note in study.notes if note.level == level)


def test_the_verdict_names_sizes_efficiency_and_interval() -> None:
    words = verdict.verdict(make({4: 1.0, 8: 0.9, 16: 0.75}))
    assert words.startswith("Weak scaling from 4 ranks on 1 node to 16 ranks on 4 nodes keeps 75.0 % (74.")
    assert "25.0 points lost" in words


def test_the_advice_takes_the_largest_size_that_keeps_the_target() -> None:
    sizes = {4: 1.0, 8: 0.95, 16: 0.85, 32: 0.6}
    assert "up to 16 ranks on 4 nodes." in verdict.advice(make(sizes))
    assert "up to 8 ranks on 2 nodes." in verdict.advice(make(sizes, question=Question(target=0.9)))
    all_good = verdict.advice(make({4: 1.0, 8: 0.95}))
    assert "up to 8 ranks on 2 nodes; that is the largest size measured" in all_good


def test_a_dip_is_not_jumped_over() -> None:
    advice = verdict.advice(make({4: 1.0, 8: 0.7, 16: 0.9}))
    assert advice == "No larger size measured keeps 80 % of the efficiency of 4 ranks on 1 node."


def test_an_interval_across_the_target_leaves_a_doubt() -> None:
    study = make({4: 1.0, 8: 0.802, 16: 0.5})
    assert not study.recommendation.certain
    assert "with a doubt: its interval reaches below" in verdict.advice(study)


def test_one_size_asks_for_a_second() -> None:
    study = make({4: 1.0})
    assert study.scaling == "one size"
    assert "Efficiency needs runs of a second size" in verdict.verdict(study)
    assert "–" not in markdown.page(study).split("## ")[0].replace("–", "", 1)  # one interval, nothing unknown


def test_costs_by_hand() -> None:
    """16 ranks on 4 nodes: 10 steps of 16 * 64 samples in 0.5 / 0.8 s a window, mean noise 1.0008."""
    study = make({4: 1.0, 16: 0.8}, repeats=1, epoch_samples=1_000_000)
    rate = 16 * 64 * 10 / (0.5 / 0.8 * float(np.mean(NOISE)))
    cost = study.costs[1]
    assert cost.node_hours_per_million.value == pytest.approx(4 * 1e6 / rate / 3600)
    assert cost.node_hours_per_epoch == cost.node_hours_per_million
    assert cost.epoch_seconds is not None
    assert cost.epoch_seconds.value == pytest.approx(1e6 / rate)
    assert make({4: 1.0, 16: 0.8}).costs[1].node_hours_per_epoch is None


def test_efficiency_over_one_is_a_question_only_where_the_interval_says_so() -> None:
    sure = make({4: 1.0, 8: 1.2})
    assert "Efficiency over 1 at 8 ranks: a question, not a result" in texts(sure, "question")
    assert "120.0 % (" in markdown.terminal(sure)
    assert ") ?" in markdown.terminal(sure)
    within = make({4: 1.0, 8: 1.001})
    assert "within its interval: not to be told from 1" in texts(within, "remark")
    assert "Efficiency over 1" not in texts(within, "question")


def test_doubts_about_repeats() -> None:
    assert "variation from job to job, such as placement, is not covered" in texts(make({4: 1.0, 8: 0.9}, 1), "remark")
    assert "Few repeats make wide intervals; ranks (runs): 4 (2), 8 (2)" in texts(make({4: 1.0, 8: 0.9}, 2), "remark")
    assert texts(make({4: 1.0, 8: 0.9}, 5), "remark") == ""


def test_a_single_run_borrows_the_spread_of_the_others() -> None:
    five = make({4: 1.0, 8: 0.9})
    kept = [m.run for m in five.measured if m.run.header.world_size == 4 or m.run.header.run_id == "r8-2"]
    study = build_study(Collection(tuple(kept), (), ()), Question())
    assert study.points[1].size.basis == "borrowed"
    costs = [measured.cost.value for measured in study.points[0].size.runs]
    relative = float(np.std(costs, ddof=1) / np.mean(costs))
    size = study.points[1].size
    assert size.cost.error / size.cost.value == pytest.approx(relative)
    assert size.cost.freedom == 4
    assert "takes the spread from job to job" in texts(study, "remark")


def test_clusters_of_repeats_are_a_question() -> None:
    def slow_second(run: Run) -> Run:
        return synthetic.run(run.header, [0.7] * 12) if run.header.run_id == "r8-1" else run

    assert "The runs at 8 ranks differ by" in texts(make({4: 1.0, 8: 0.9}, change=slow_second), "question")


def test_warmup_that_was_not_marked_and_outliers_are_remarked() -> None:
    def rough(run: Run) -> Run:
        return synthetic.run(run.header, [2.0, 1.6, *NOISE, 9.0, *NOISE])

    study = make({4: 1.0, 8: 0.9}, 1, change=rough)
    assert "windows left out in brackets: r4-0 (2), r8-0 (2)" in texts(study, "remark")
    assert "2 of 50 windows are outliers; they are shown" in texts(study, "remark")


def test_drift_short_runs_and_cut_ones_are_named() -> None:
    def drift(run: Run) -> Run:
        return replace(synthetic.run(run.header, [1.0] * 4 + [2.0] * 4), end=None)

    study = make({4: 1.0, 8: 0.9}, 1, change=drift)
    assert "No steady state in r4-0, r8-0" in texts(study, "problem")
    assert "Fewer than 100 measured steps in a run at these ranks: 4 (40 steps), 8 (40 steps)" in texts(
        study, "problem"
    )


def test_other_versions_are_a_problem_other_buckets_a_difference() -> None:
    def newer(run: Run) -> Run:
        if run.header.world_size == 4:
            return run
        settings = {"exchange": {"bucket_megabytes": 64.0}}
        head = replace(run.header, versions={"torch": "2.14.0", "hpc_dl": "0.1.0"}, settings=settings)
        return replace(run, header=head)

    study = make({4: 1.0, 8: 0.9}, 2, change=newer, settings={"exchange": {"bucket_megabytes": 25.0}})
    assert "differ in versions.torch: 2.13.0: r4-0, r4-1; 2.14.0: r8-0, r8-1" in texts(study, "problem")
    facts = {difference.fact for difference in study.environment.differing}
    assert facts == {"versions.torch", "settings.exchange.bucket_megabytes"}
    assert "| exchange.bucket_megabytes | 64.0 | 2 | 8 |" in markdown.page(study)


def test_large_batches_are_a_question() -> None:
    large = make({4: 1.0, 256: 0.9}, 2, epoch_samples=100_000)
    assert "A global batch of 16,384: a linearly scaled learning rate" in texts(large, "question")
    assert "An epoch at 256 ranks is 6.1 steps" in texts(large, "question")
    lamb = make({4: 1.0, 256: 0.9}, 2, settings={"optimizer": {"name": "lamb"}})
    assert "global batch" not in texts(lamb, "question")


def test_small_last_batches_are_a_question() -> None:
    def cut(run: Run) -> Run:
        windows = [replace(window, samples=int(window.samples * 0.8)) for window in run.windows]
        return replace(run, windows=tuple(windows))

    study = make({4: 1.0, 8: 0.9}, 2, change=lambda run: cut(run) if run.header.world_size == 8 else run)
    assert "at ranks 8 (80 %)" in texts(study, "question")


def test_strong_scaling_gets_amdahls_fraction() -> None:
    serial = 0.1
    runs = []
    for ranks in (1, 2, 4, 8):
        head = synthetic.header(ranks, local_batch=64 // ranks, batch_rule="global")
        runs.append(synthetic.run(head, [serial + (1 - serial) / ranks] * 12))
    study = build_study(Collection(tuple(runs), (), ()), Question())
    page = markdown.page(study)
    assert "Amdahl's law fits with a serial fraction of 0.100; a speed-up of 10 is then the limit." in page
    assert "Serial fraction (Karp-Flatt)" in page
    plain = json.loads(data.json_text(study))
    assert plain["amdahl_serial_fraction"]["value"] == pytest.approx(serial)
    assert [size["serial_part"] for size in plain["sizes"]] == [None, *[pytest.approx(serial)] * 3]


def test_a_proposal_counts_whole_nodes_and_checks_what_calls_ask_for() -> None:
    study = make({1: 1.0, 4: 0.96, 8: 0.9, 16: 0.85}, 3, Question(epochs=90), epoch_samples=1_000_000)
    found = proposal(study)
    assert found is not None
    assert [point.size.world_size for point in found.points] == [4, 8, 16]
    assert found.points[2].efficiency.value == pytest.approx(0.85 / 0.96)
    assert all(check.met for check in found.checks), found.checks
    hours = study.costs[3].node_hours_per_epoch
    assert hours is not None
    assert found.request is not None
    assert found.request.value == pytest.approx(90 * hours.value)
    assert "90 epochs on 4 nodes take" in markdown.page(study)


def test_a_proposal_says_what_is_missing() -> None:
    found = proposal(make({8: 1.0, 32: 0.9}, 2))
    assert found is not None
    missing = {check.demand for check in found.checks if not check.met}
    assert missing == {"starts at one node", "nodes at most double from size to size", "at least 3 runs of every size"}
    assert proposal(make({1: 1.0, 4: 0.9})) is None
    assert "All runs are on 1 node. A call for computing time asks for" in markdown.page(make({1: 1.0, 4: 0.9}))


@pytest.mark.parametrize("question", [{"target": 0.0}, {"target": 1.2}, {"epochs": -1}])
def test_questions_out_of_range_are_refused(question: dict[str, Any]) -> None:
    with pytest.raises(HpcDlError, match="out of range"):
        Question(**question)


def test_the_last_evaluation_is_in_the_table_of_runs(tmp_path: Path) -> None:
    folder = synthetic.write(tmp_path, synthetic.header(2), NOISE)
    log = LogWriter(folder)
    log.write(Evaluation(step=120, epoch=2, samples=360, seconds=1.0, metrics={"accuracy": 0.98333}))
    log.close()
    assert "accuracy 0.9833" in markdown.page(read_study([tmp_path]))


def test_numbers_in_json_are_those_of_the_table() -> None:
    study = make({4: 1.0, 8: 0.9})
    plain = json.loads(data.json_text(study))
    size = plain["sizes"][1]
    assert size["efficiency"] == pytest.approx(0.9)
    assert size["efficiency_low"] < 0.9 < size["efficiency_high"]
    parts = sum(size[f"{part}_seconds"] for part in ("input", "forward", "backward", "communication", "imbalance"))
    parts += size["optimizer_seconds"] + size["other_seconds"]
    assert parts == pytest.approx(size["step_seconds"])
    assert sum(value for key, value in size.items() if key.startswith("lost_to_")) == pytest.approx(0.1)
    assert len(plain["runs"]) == 10
    assert plain["shared"]["model"] == "hpc_dl.models.mnist_cnn:MnistCnn"


def test_an_exchange_that_was_not_measured_is_no_free_one() -> None:
    """As of a followed loop whose gradients somebody else averages."""

    def within_backward(run: Run) -> Run:
        nothing = synthetic.even(0.0)
        windows = [replace(window, phases={**window.phases, "exchange": nothing}) for window in run.windows]
        return replace(run, windows=tuple(windows))

    assert "At ranks 4, 8 the exchange of gradients was not measured" in texts(
        make({1: 1.0, 4: 1.0, 8: 0.9}, change=within_backward), "problem"
    )
    assert "the exchange of gradients" not in texts(make({1: 1.0, 4: 1.0}), "problem")
