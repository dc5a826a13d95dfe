# SPDX-License-Identifier: Apache-2.0
"""`hpc-dl report measurements.csv`: efficiency as from logs, and nothing that the table does not tell."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from hpc_dl import cli
from tests.scaling import synthetic

ROOT = Path(__file__).parents[2]
HEADINGS = "nodes,ranks,samples,seconds"
PLAIN = [
    HEADINGS,
    *(f"1,4,10000,{seconds}" for seconds in (10.0, 10.1, 9.9, 10.05)),
    *(f"2,8,20000,{seconds}" for seconds in (11.0, 11.2, 10.9, 11.1)),
]
INTERVALS = [
    f"{name}{end}" for name in ("efficiency", "samples_per_second", "speedup") for end in ("", "_low", "_high")
]


def write(folder: Path, lines: Sequence[str], name: str = "measured.csv") -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def report(path: Path, output: Path, *words: str) -> dict[int, dict[str, str]]:
    """The sizes of the report."""
    assert cli.main(["report", str(path), "--output", str(output), *words]) == 0
    with (output / "report.csv").open() as lines:
        return {int(line["ranks"]): line for line in csv.DictReader(lines)}


def test_efficiency_and_its_error_are_those_from_logs(tmp_path: Path) -> None:
    """Windows of repeated runs, with warm-up that is found, an outlier, and a size that was run once."""
    random = np.random.default_rng(3)
    lines = [HEADINGS + ",name,batch_rule"]
    for ranks, repeats in ((4, 3), (8, 3), (16, 1)):
        for repeat in range(repeats):
            seconds = (1 + ranks / 100 + 0.1 * repeat) * (1 + 0.01 * random.standard_normal(12))
            seconds[0] *= 2
            seconds[7] *= 1.3
            head = synthetic.header(ranks, run_id=f"cnn-{ranks}-{repeat}")
            synthetic.write(tmp_path / "runs", head, seconds.tolist())
            samples = 10 * head.global_batch
            lines += [f"{head.nodes},{ranks},{samples},{time!r},{head.run_id},local" for time in seconds.tolist()]
    from_logs = report(tmp_path / "runs", tmp_path / "a", "--no-prediction")
    from_table = report(write(tmp_path, lines), tmp_path / "b")
    for ranks, size in from_logs.items():
        found = from_table[ranks]
        assert [float(found[name]) for name in INTERVALS] == pytest.approx([float(size[name]) for name in INTERVALS])
        assert found["interval_over"] == size["interval_over"]
        assert float(found["node_hours_per_million_samples"]) == pytest.approx(
            float(size["node_hours_per_million_samples"])
        )
    assert {size["interval_over"] for size in from_table.values()} == {"repeats", "borrowed"}


def test_what_a_table_does_not_tell_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = report(write(tmp_path, PLAIN), tmp_path / "out")
    unknown = (
        "local_batch",
        "global_batch",
        "steps",
        "step_seconds",
        "serial_part",
        "forward_seconds",
        "lost_to_input",
    )
    assert all(size[name] == "" for size in sizes.values() for name in unknown)
    printed = capsys.readouterr().out
    page = (tmp_path / "out/report.md").read_text()
    assert "Scaling from 4 ranks on 1 node to 8 ranks on 2 nodes keeps 90." in printed
    for text in (printed, page, (tmp_path / "out/report.html").read_text()):
        assert "measured.csv, which says nothing of steps, model, software and hosts" in text
        for word in ("Global batch", "Where the time goes", "engine", "parameters", "First step", "cut short", "Fewer"):
            assert word not in text
    assert "Environment" not in page
    assert "prediction" not in page
    plain = json.loads((tmp_path / "out/report.json").read_text())
    assert plain["scaling"] == "unstated"
    assert plain["sizes"][0]["step_seconds"] is None


def test_the_rule_of_the_batch_is_taken_from_the_table(tmp_path: Path) -> None:
    for rule, kind in (("local", "Weak scaling"), ("global", "Strong scaling")):
        lines = [f"{line},{'batch_rule' if line == HEADINGS else rule}" for line in PLAIN]
        sizes = report(write(tmp_path, lines), tmp_path / rule)
        page = (tmp_path / rule / "report.md").read_text()
        assert f"{kind}; efficiency against 4 ranks on 1 node" in page
        assert ("Amdahl" in page) == (rule == "global")
        assert float(sizes[8]["serial_part"]) > 0


def test_rows_of_one_name_are_a_run_and_names_are_repeats(tmp_path: Path) -> None:
    lines = [HEADINGS + ",name,host"] + [f"{line},run{index // 2},any" for index, line in enumerate(PLAIN[1:])]
    sizes = report(write(tmp_path, lines), tmp_path / "out", "--baseline", "run0")
    assert [size["runs"] for size in sizes.values()] == ["2", "2"]
    assert [size["interval_over"] for size in sizes.values()] == ["repeats", "repeats"]
    assert "run3" in (tmp_path / "out/report-runs.csv").read_text()


def test_a_size_of_one_row_has_no_interval_and_a_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = report(write(tmp_path, [*PLAIN, "4,16,40000,12.5"]), tmp_path / "out")
    assert float(sizes[16]["efficiency"]) == pytest.approx(0.801)
    assert sizes[16]["efficiency_low"] == ""
    printed = capsys.readouterr().out
    assert "problem: One row only at ranks 16" in printed
    assert "One run only at ranks 4, 8:" in printed


def test_a_prediction_that_was_asked_for_is_refused_with_the_reason(tmp_path: Path) -> None:
    report(write(tmp_path, PLAIN), tmp_path / "out", "--machine", "perlmutter")
    assert "No prediction: it needs the parts of a step" in (tmp_path / "out/report.md").read_text()


def test_what_spreadsheets_write_is_read(tmp_path: Path) -> None:
    lines = ["\ufeffNodes, Ranks ,Samples,Seconds", '"1","4","10000","10.0"', "1,4,1e4,10.1", "", "2, 8, 20000.0, 11"]
    sizes = report(write(tmp_path, lines, "Measured.CSV"), tmp_path / "out")
    assert float(sizes[8]["samples_per_second"]) == pytest.approx(20000 / 11)


def test_the_table_of_the_page_is_read(tmp_path: Path) -> None:
    table = re.findall(r"```csv\n(.*?)```", (ROOT / "docs/results.md").read_text(), re.DOTALL)[0]
    assert len(report(write(tmp_path, table.splitlines()), tmp_path / "out")) > 1


REFUSED = {
    "missing": (["nodes,ranks,seconds", "1,4,10"], "no column samples among its first line's nodes, ranks, seconds"),
    "semicolons": (["nodes;ranks;samples;seconds", "1;4;1;1"], "with commas between"),
    "empty": ([""], "no column nodes"),
    "no rows": ([HEADINGS], "it has no rows"),
    "text": ([*PLAIN, "4,16,many,12"], "line 10: samples is 'many'"),
    "units": ([*PLAIN, "4,16,40000,12 s"], "line 10: seconds is '12 s'"),
    "nothing": ([*PLAIN, "4,16,,12"], "line 10: samples is ''"),
    "short": ([*PLAIN, "4,16,40000"], "line 10: seconds is ''"),
    "zero": ([*PLAIN, "4,16,40000,0"], "line 10: seconds is '0'"),
    "infinite": ([*PLAIN, "4,16,40000,inf"], "line 10: seconds is 'inf'"),
    "part of a rank": ([*PLAIN, "4,16.5,40000,12"], "ranks is '16.5'\n  What to do: write a whole number"),
    "comma": ([*PLAIN, "4,16,40000,12,5"], "line 10: more cells than"),
    "ragged": ([*PLAIN, "3,16,40000,12"], "16 ranks cannot stand in equal numbers on 3 nodes"),
    "one size": (PLAIN[:4], "all its rows have 4 ranks on 1 nodes"),
    "two layouts": ([*PLAIN, "4,8,20000,11"], "lines 6 and 10: 8 ranks on 2 nodes and 8 ranks on 4 nodes"),
    "rule": ([HEADINGS + ",batch_rule", "1,4,1,1,wild"], "batch_rule 'wild'"),
    "two rules": ([HEADINGS + ",batch_rule", "1,4,1,1,local", "2,8,1,1,global"], "lines 2 and 3"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_table_that_says_nothing_is_refused(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines, found = REFUSED[case]
    path = write(tmp_path, lines)
    assert cli.main(["report", str(path), "--output", str(tmp_path / "out")]) == 2
    printed = capsys.readouterr().err
    assert str(path) in printed
    assert found in printed
    assert not (tmp_path / "out").exists()


def test_files_that_are_no_tables_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", str(tmp_path / "nowhere.csv")]) == 2
    assert "No such file" in capsys.readouterr().err
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00n")
    assert cli.main(["report", str(tmp_path / "binary.csv")]) == 2
    assert "it is no CSV file" in capsys.readouterr().err
    assert cli.main(["report", str(write(tmp_path, PLAIN)), str(tmp_path)]) == 2
    assert "a table cannot stand beside others" in capsys.readouterr().err
