# SPDX-License-Identifier: Apache-2.0
"""`hpc-dl prove` finds the fault that is planted in a training, and none in trainings without."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hpc_dl.cli import main
from hpc_dl.prove.row import Row, exit_code, to_markdown

HERE = Path(__file__).parent
FAULTS = "tests.prove.faults"
pytestmark = [pytest.mark.parallel, pytest.mark.slow]


def prove(folder: Path, file: str, only: str, *flags: str, engines: str = "torch") -> tuple[int, list[dict[str, Any]]]:
    """The exit code and the rows."""
    output = folder / "proof"
    words = [str(HERE / file), "--only", only, "--engines", engines, "--output", str(output), *flags]
    code = main(["prove", *words])
    return code, json.loads((output / "prove.json").read_text(encoding="utf-8"))["rows"]


def verdicts(rows: list[dict[str, Any]]) -> list[str]:
    return [row["verdict"] for row in rows]


def test_all_is_shown_of_a_small_cnn_with_dropout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["prove", "mnist_cnn", "--engines", "torch", "--output", str(tmp_path)])
    rows = json.loads((tmp_path / "prove.json").read_text(encoding="utf-8"))["rows"]
    assert code == 0
    assert verdicts(rows) == ["shown"] * 7
    numbers, metrics, samples, resumed, elsewhere, draws, _ = rows
    assert numbers["largest"] < numbers["limit"] == 1e-10
    assert "dropout off" in numbers["why"]
    assert "13 samples" in metrics["why"]
    assert "epoch of 21 samples" in samples["why"]  # two whole batches of 8 and a ragged one
    assert resumed["largest"] == 0
    assert "within an epoch" in resumed["why"]
    assert elsewhere["largest"] < 1e-10
    assert "no two ranks draw the same" in draws["why"]
    assert all(row["what"] in (tmp_path / "prove.md").read_text(encoding="utf-8") for row in rows)
    assert "shown           2 ranks (torch) end at the parameters of one process" in capsys.readouterr().out


@pytest.mark.horovod
def test_a_mean_over_tokens_with_its_weight_is_shown_with_both_engines(tmp_path: Path) -> None:
    code, rows = prove(tmp_path, "padded.toml", "numbers,metrics", engines="torch,horovod")
    assert (code, verdicts(rows)) == (0, ["shown"] * 3)


def test_batch_normalisation_over_all_ranks_is_shown(tmp_path: Path) -> None:
    code, rows = prove(tmp_path, "images.toml", "numbers,buffers", "--device.sync_batchnorm", "true")
    assert (code, verdicts(rows)) == (0, ["shown"] * 2)
    assert "in every step" in rows[1]["why"]


def test_batch_normalisation_by_rank_is_another_function_and_no_fault(tmp_path: Path) -> None:
    code, rows = prove(tmp_path, "images.toml", "numbers,buffers")
    assert (code, verdicts(rows)) == (0, ["cannot be shown", "shown"])
    assert "Remedy: device.sync_batchnorm" in rows[0]["why"]
    assert "its statistics differ between ranks by" in rows[0]["why"]
    assert rows[0]["largest"] < 1e-10  # with it, all else is the same
    assert "each rank's own" in rows[1]["why"]


def test_a_mean_over_tokens_without_its_weight_is_found(tmp_path: Path) -> None:
    code, (row,) = prove(tmp_path, "padded.toml", "numbers", "--task.objective", f"{FAULTS}:plain_mean")
    assert (code, row["verdict"]) == (1, "not shown")
    assert row["largest"] > 1e-6
    assert "return (mean, their number)" in row["why"]


def test_a_root_of_a_mean_is_found_among_metrics_and_the_rest_is_proved_without(tmp_path: Path) -> None:
    metrics = json.dumps([f"{FAULTS}:rmse"])
    code, rows = prove(tmp_path, "rows.toml", "metrics,numbers", "--task.metrics", metrics)
    assert (code, verdicts(rows)) == (1, ["not shown", "shown"])
    assert "rmse" in rows[0]["why"]


def test_a_sample_that_is_another_on_some_rank_is_found(tmp_path: Path) -> None:
    code, (row,) = prove(tmp_path, "rows.toml", "samples", "--data.source", f"{FAULTS}:of_rank")
    assert (code, row["verdict"]) == (1, "not shown")
    assert "samples 3 are others on rank 1" in row["why"]


def test_duplicates_in_the_source_are_told(tmp_path: Path) -> None:
    """They may be meant, so they are no fault."""
    code, (row,) = prove(tmp_path, "rows.toml", "samples", "--data.source", f"{FAULTS}:twice")
    assert (code, row["verdict"]) == (0, "cannot be shown")
    assert "duplicates" in row["why"]


def test_augmentation_by_a_generator_of_its_own_is_alike_on_all_ranks_and_not_resumed(tmp_path: Path) -> None:
    code, rows = prove(tmp_path, "rows.toml", "samples,draws,resume", "--data.source", f"{FAULTS}:own_generator")
    assert (code, verdicts(rows)) == (1, ["cannot be shown", "not shown", "not shown"])
    assert "a generator of its own" in rows[0]["why"]


def test_random_augmentation_is_drawn_by_each_rank_and_keeps_numbers_from_being_compared(tmp_path: Path) -> None:
    code, rows = prove(tmp_path, "rows.toml", "numbers,draws", "--data.source", f"{FAULTS}:noisy")
    assert (code, verdicts(rows)) == (0, ["cannot be shown", "shown"])
    assert "the data source (torch)" in rows[0]["why"]


def test_dropout_seeded_alike_on_all_ranks_is_found(tmp_path: Path) -> None:
    code, (row,) = prove(tmp_path, "rows.toml", "draws", "--task.model", f"{FAULTS}:SeededAlike")
    assert (code, row["verdict"]) == (1, "not shown")
    assert "ranks 0 and 1 draw the same numbers (bernoulli_" in row["why"]


def test_a_hook_that_acts_by_rank_is_found_where_the_training_says_nothing(tmp_path: Path) -> None:
    hooks = json.dumps({f"{FAULTS}:RateOfRank": {}})
    code, (row,) = prove(tmp_path, "rows.toml", "numbers", "--task.hooks", hooks)
    assert (code, row["verdict"]) == (1, "not shown")
    assert "ranks end at parameters that differ" in row["why"].lower()


def test_a_schedule_by_rank_ends_the_trial_whose_message_is_told(tmp_path: Path) -> None:
    code, rows = prove(tmp_path, "rows.toml", "numbers,buffers", "--schedule.name", f"{FAULTS}:schedule_of_rank")
    assert (code, verdicts(rows)) == (1, ["not shown", "cannot be shown"])
    assert all("the same model on all ranks after step 1" in row["why"] for row in rows)


def test_a_buffer_of_the_ranks_own_samples_that_feeds_forward_is_found(tmp_path: Path) -> None:
    code, rows = prove(tmp_path, "rows.toml", "numbers,buffers", "--task.model", f"{FAULTS}:Centred")
    assert (code, verdicts(rows)) == (1, ["not shown", "shown"])
    assert all("centre" in row["why"] for row in rows)


def test_a_buffer_of_whole_numbers_that_is_not_the_same_on_all_ranks_is_found(tmp_path: Path) -> None:
    code, (row,) = prove(tmp_path, "rows.toml", "buffers", "--task.model", f"{FAULTS}:Counting")
    assert (code, row["verdict"]) == (1, "not shown")
    assert row["why"].startswith("seen")


def test_a_state_that_no_checkpoint_holds_is_found(tmp_path: Path) -> None:
    code, (row,) = prove(tmp_path, "rows.toml", "resume", "--task.model", f"{FAULTS}:Forgetful")
    assert (code, row["verdict"]) == (1, "not shown")
    assert row["largest"] > 1e-6


def test_a_training_that_fails_on_one_process_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(HERE / "rows.toml"), "--task.model", "tests.prove.faults:Absent", "--task.metrics", "[]"]
    assert main(["prove", *words, "--keep", "--output", str(tmp_path)]) == 2
    assert "Absent" in (tmp_path / "trials" / "1-single" / "output.log").read_text(encoding="utf-8")
    told = capsys.readouterr().err
    assert "the training fails on one process" in told
    assert "Absent" in told


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--ranks", "1"], "not a list of numbers from 2 on"),
        (["--steps", "2"], "too few to cut a training"),
        (["--only", "number"], "did you mean numbers"),
        (["--training.global_batch", "2", "--ranks", "4"], "some have no sample"),
        (["--engines", "hrovod"], "no such engine"),
        (["--keep"], "name one with --output"),
    ],
)
def test_a_wrong_request_is_told_before_anything_is_started(
    flags: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prove", str(HERE / "rows.toml"), *flags]) == 2
    heard = capsys.readouterr().err
    assert told in heard
    assert "training 1-single" not in heard


def test_trials_of_another_proof_are_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "trials").mkdir()
    assert main(["prove", str(HERE / "rows.toml"), "--keep", "--output", str(tmp_path)]) == 2
    assert "name another folder" in capsys.readouterr().err


def test_what_cannot_be_shown_is_no_failure_and_a_page_keeps_its_table() -> None:
    rows = [Row("a", "shown", ""), Row("b|c", "cannot be shown", "two\nlines")]
    assert exit_code(rows) == 0
    assert exit_code([*rows, Row("d", "not shown", "")]) == 1
    assert "| b\\|c | cannot be shown |  | two lines |" in to_markdown("title", ["note"], rows)
