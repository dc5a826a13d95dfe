# SPDX-License-Identifier: Apache-2.0
"""`hpc-dl report` as a user meets it: what it prints, writes and refuses."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from hpc_dl.commands import report
from hpc_dl.errors import HpcDlError
from tests.scaling import synthetic

STEADY = [0.5, 0.51, 0.49, 0.5, 0.52, 0.48, 0.5, 0.5]


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A parent folder with runs of 1, 2 and 4 ranks, whose efficiencies are 1, 0.9 and 0.8."""
    for ranks, efficiency in ((1, 1.0), (2, 0.9), (4, 0.8)):
        synthetic.write(tmp_path / "runs", synthetic.header(ranks), [time / efficiency for time in STEADY])
    return tmp_path / "runs"


def run(*words: str | Path) -> int:
    return report.main([str(word) for word in words], {})


def sizes(output: Path) -> dict[int, dict[str, str]]:
    with (output / "report.csv").open() as lines:
        return {int(line["ranks"]): line for line in csv.DictReader(lines)}


def test_efficiency_and_speedup_in_every_format(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(study, "--output", tmp_path / "out") == 0
    printed = capsys.readouterr().out
    assert "Weak scaling (64 samples a rank); efficiency against 1 rank on 1 node" in printed
    assert "80.0 %" in printed
    by_ranks = sizes(tmp_path / "out")
    assert float(by_ranks[4]["efficiency"]) == pytest.approx(0.8)
    assert float(by_ranks[4]["speedup"]) == pytest.approx(3.2)
    assert float(by_ranks[1]["samples_per_second"]) == pytest.approx(64 * 10 * 8 / sum(STEADY))
    plain = json.loads((tmp_path / "out" / "report.json").read_text())
    assert plain["scaling"] == "weak"
    assert [size["efficiency"] for size in plain["sizes"]] == pytest.approx([1.0, 0.9, 0.8])
    assert "80.0 %" in (tmp_path / "out" / "report.md").read_text()


def test_the_page_is_small_and_loads_nothing(study: Path, tmp_path: Path) -> None:
    run(study, "--output", tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert len(page.encode()) < 500_000
    assert page.count("<svg") >= 2
    assert "src=" not in page
    assert "@import" not in page
    assert "http" not in page.replace('xmlns="http', "").replace('xlink="http', "")


def test_warmup_is_left_out_and_order_of_files_does_not_matter(study: Path, tmp_path: Path) -> None:
    run(study / "cnn-4", study / "cnn-1", study / "cnn-2", "--output", tmp_path / "a")
    run(study / "cnn-1", study / "cnn-2" / "log.jsonl", study / "cnn-4", "--output", tmp_path / "b")
    assert (tmp_path / "a" / "report.csv").read_text() == (tmp_path / "b" / "report.csv").read_text()


def test_strong_scaling_is_seen_in_the_batches(tmp_path: Path) -> None:
    for ranks, seconds in ((1, 1.0), (2, 0.6), (4, 0.4)):
        head = synthetic.header(ranks, local_batch=64 // ranks, batch_rule="global")
        synthetic.write(tmp_path, head, [seconds] * 8)
    run(tmp_path, "--output", tmp_path / "out")
    assert json.loads((tmp_path / "out" / "report.json").read_text())["scaling"] == "strong"
    assert float(sizes(tmp_path / "out")[4]["efficiency"]) == pytest.approx(1.0 / (4 * 0.4))


@pytest.mark.parametrize(
    ("choice", "expected"), [("one-rank", 1), ("one-node", 4), ("smallest", 1), ("cnn-8", 8), ("cnn-2", 2)]
)
def test_baseline_is_the_users_choice_and_printed(
    choice: str, expected: int, study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    synthetic.write(study, synthetic.header(8), [time / 0.7 for time in STEADY])
    run(study, "--output", tmp_path / "out", "--baseline", choice)
    assert f"efficiency against {expected} rank" in capsys.readouterr().out
    assert float(sizes(tmp_path / "out")[expected]["efficiency"]) == 1.0


def test_a_baseline_that_is_not_there_is_refused(study: Path, tmp_path: Path) -> None:
    with pytest.raises(HpcDlError, match=r"baseline cnn-16.*1 ranks on 1 nodes"):
        run(study, "--output", tmp_path / "out", "--baseline", "cnn-16")


def test_repeats_are_combined(study: Path, tmp_path: Path) -> None:
    for repeat, factor in enumerate((1.1, 1.2)):
        head = synthetic.header(4, run_id=f"cnn-4-again-{repeat}")
        synthetic.write(study, head, [factor * time / 0.8 for time in STEADY])
    run(study, "--output", tmp_path / "out")
    line = sizes(tmp_path / "out")[4]
    assert line["runs"] == "3"
    assert line["interval_over"] == "repeats"
    assert float(line["efficiency"]) == pytest.approx(0.8 / 1.1)


def test_broken_lines_are_counted_and_named(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = study / "cnn-2" / "log.jsonl"
    lines = log.read_text().splitlines()
    lines[3] = lines[3][: len(lines[3]) // 2]
    log.write_text("\n".join([*lines, '{"kind":"window","ver']))
    run(study, "--output", tmp_path / "out")
    printed = capsys.readouterr().out
    assert "problem: 2 log lines could not be read" in printed
    assert "cnn-2 line 4" in printed
    assert f"cnn-2 line {len(lines) + 1}" in printed


def test_useless_and_copied_runs_are_left_out_by_name(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    synthetic.write(study, synthetic.header(8, run_id="cut-short"), [1.0], warmup=5, keep=3)
    copy = study / "copy-of-4"
    copy.mkdir()
    (copy / "log.jsonl").write_text((study / "cnn-4" / "log.jsonl").read_text())
    (study / "headless").mkdir()
    (study / "headless" / "log.jsonl").write_text("nothing here\n")
    run(study, "--output", tmp_path / "out")
    printed = capsys.readouterr().out
    assert "cut-short: no window after warm-up" in printed
    assert "copy-of-4: the same run as cnn-4" in printed
    assert "headless: its log has no readable header" in printed
    assert sizes(tmp_path / "out")[4]["runs"] == "1"


OTHERS = {
    "model": {"model": "mine:Model"},
    "precision": {"precision": "bf16"},
    "batch rule": {"batch_rule": "global"},
    "engine": {"engine": "torch"},
    "device": {"device": "cuda"},
    "compression": {"settings": {"exchange": {"compression": "fp16"}}},
    "layout of 4 ranks": {"nodes": 2, "ranks_per_node": (2, 2)},
}


@pytest.mark.parametrize("trait", OTHERS)
def test_runs_that_cannot_be_compared_are_refused_by_name(trait: str, study: Path, tmp_path: Path) -> None:
    if trait == "compression":
        head = synthetic.header(4, run_id="usual", settings={"exchange": {"compression": "none"}})
        synthetic.write(study, head, STEADY)
    synthetic.write(study, replace(synthetic.header(4, run_id="the-odd-one"), **OTHERS[trait]), STEADY)
    with pytest.raises(HpcDlError, match="the-odd-one") as refusal:
        run(study, "--output", tmp_path / "out")
    assert f"differ in {trait}" in str(refusal.value)
    assert not (tmp_path / "out").exists()


def test_ragged_batches_are_neither_weak_nor_strong(study: Path, tmp_path: Path) -> None:
    synthetic.write(study, synthetic.header(8, local_batch=48, run_id="odd"), STEADY)
    with pytest.raises(HpcDlError, match=r"neither the local nor the global batch.*odd: 8 ranks, local 48, global 384"):
        run(study, "--output", tmp_path / "out")


def test_a_ragged_layout_is_refused(study: Path, tmp_path: Path) -> None:
    synthetic.write(study, synthetic.header(8, run_id="lame", nodes=2, ranks_per_node=(3, 5)), STEADY)
    with pytest.raises(HpcDlError, match=r"run lame, whose layout is ragged: its nodes have 3 to 5 ranks each"):
        run(study, "--output", tmp_path / "out")


@pytest.mark.parametrize("factor", [0.25, 2.0])
def test_a_header_that_contradicts_its_windows_is_refused(factor: float, study: Path, tmp_path: Path) -> None:
    claimed = synthetic.header(4, run_id="liar")
    counted = replace(claimed, global_batch=int(factor * claimed.global_batch))
    synthetic.write(study, claimed, STEADY, counted=counted.global_batch)
    with pytest.raises(HpcDlError, match=r"run liar, which is mislabelled"):
        run(study, "--output", tmp_path / "out")


def test_a_resumed_run_counts_as_two_jobs(study: Path, tmp_path: Path) -> None:
    synthetic.write(study, synthetic.header(4, started="2026-11-25T10:00:00Z"), [time / 0.8 for time in STEADY])
    run(study, "--output", tmp_path / "out")
    assert sizes(tmp_path / "out")[4]["runs"] == "2"


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HpcDlError, match=r"no log\.jsonl"):
        run(tmp_path)
    with pytest.raises(HpcDlError, match="no such folder"):
        run(tmp_path / "nowhere")


def test_starts_without_torch(study: Path, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom hpc_dl.cli import main\n"
        f"code = main(['report', {str(study)!r}, '--output', {str(tmp_path / 'out')!r}])\n"
        "sys.exit(code or ('torch is loaded' if 'torch' in sys.modules else 0))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "report.html").is_file()


def test_help_imports_neither_scipy_nor_matplotlib() -> None:
    code = (
        "import sys\nfrom hpc_dl.cli import main\n"
        "try:\n    main(['report', '--help'])\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('torch', 'numpy', 'scipy', 'matplotlib', 'jinja2') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


PROOF = {
    "version": 1,
    "title": "What is shown of mine",
    "notes": ["in float64"],
    "rows": [{"what": "2 ranks end alike", "verdict": "shown", "why": "a\nb", "largest": 2e-16, "limit": 1e-10}],
}


def test_a_proof_beside_the_runs_is_on_the_pages(study: Path, tmp_path: Path) -> None:
    (study / "prove.json").write_text(json.dumps(PROOF))
    assert run(study, "--output", tmp_path / "out") == 0
    assert "| 2 ranks end alike | shown | 2.0e-16 (limit 1e-10) | a b |" in (tmp_path / "out" / "report.md").read_text()
    assert "2 ranks end alike" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize("text", ["{", "[]", '{"version": 2}', '{"version": 1, "rows": 3}'])
def test_a_file_that_is_no_proof_is_passed_over(text: str, study: Path, tmp_path: Path) -> None:
    (study / "prove.json").write_text(text)
    assert run(study, "--output", tmp_path / "out") == 0
    assert "of the training itself" not in (tmp_path / "out" / "report.md").read_text()
