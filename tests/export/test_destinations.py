# SPDX-License-Identifier: Apache-2.0
"""`hpc-dl export` as a user meets it; what was written is read back as the tools read it."""

from __future__ import annotations

import csv
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hpc_dl import cli
from hpc_dl.errors import HpcDlError
from hpc_dl.export import DESTINATIONS, export
from hpc_dl.runlog.records import Record
from tests.export import logs

NAMES = {"tensorboard", "csv", "openmetrics"}


def export_run(tmp_path: Path, records: list[Record], to: str, half: str = "") -> Path:
    """Write the log, export it by the command, and the folder it went to."""
    run, output = logs.write(tmp_path / "run", records, half), tmp_path / "out"
    assert cli.main(["export", str(run), "--to", to, "--output", str(output)]) == 0
    return output


def events(folder: Path) -> list[Any]:
    """All events of a folder's files in order, their frames checked for length."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(folder.glob("events*")):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            found.append(Event.FromString(data[12 : 12 + length]))
            assert len(data) >= 16 + length
            data = data[16 + length :]
    return found


def curve(folder: Path, tag: str) -> dict[int, float]:
    points = [(e.step, value) for e in events(folder) for value in e.summary.value if value.tag == tag]
    assert len({step for step, _ in points}) == len(points)
    return {step: value.simple_value for step, value in points}


def test_tensorboard_shows_curves_and_facts(tmp_path: Path) -> None:
    folder = export_run(tmp_path, logs.LONGER, "tensorboard") / "digits-2"
    assert curve(folder, "train/loss") == pytest.approx({10: 0.1, 20: 0.05, 30: 1 / 30, 40: 0.025})
    assert curve(folder, "evaluation/accuracy") == {20: 0.5, 40: 0.75}
    found = events(folder)
    assert found[0].file_version == "brain.Event:2"
    assert [e.wall_time for e in found if e.step == 40][-1] == logs.STARTED + 9.0
    facts = next(value for e in found for value in e.summary.value if value.tag.startswith("facts"))
    assert "| settings.task.model | a\\|b:C |" in facts.tensor.string_val[0].decode()


def test_tensorboard_goes_on_with_its_file_while_the_job_runs(tmp_path: Path) -> None:
    folder = export_run(tmp_path, logs.RUNNING, "tensorboard", logs.HALF) / "digits-2"
    (of_first,) = folder.iterdir()
    before = of_first.read_bytes()
    export_run(tmp_path, logs.LONGER, "tensorboard")
    assert list(folder.iterdir()) == [of_first]
    assert of_first.read_bytes().startswith(before)
    assert list(curve(folder, "train/loss")) == [10, 20, 30, 40]
    whole = of_first.read_bytes()
    of_first.write_bytes(whole[:-7])  # an export that was killed
    export_run(tmp_path, logs.LONGER, "tensorboard")
    assert of_first.read_bytes() == whole


def test_tensorboard_forgets_what_a_resumed_job_did_again(tmp_path: Path) -> None:
    folder = export_run(tmp_path, logs.LONGER, "tensorboard") / "digits-2"
    (superseded,) = folder.iterdir()
    (folder / "events.out.tfevents.1.of_another").touch()
    export_run(tmp_path, logs.RESUMED, "tensorboard")
    (new,) = folder.glob("*.hpc_dl")
    assert new.name > superseded.name  # TensorBoard reads files by name
    assert (folder / "events.out.tfevents.1.of_another").exists()
    assert curve(folder, "speed/step_seconds")[40] == pytest.approx(0.4)
    assert curve(folder, "evaluation/accuracy") == {20: 0.5}


def test_csv_holds_a_row_for_each_scalar_and_fact(tmp_path: Path) -> None:
    export_run(tmp_path, logs.RUNNING, "csv", logs.HALF)
    folder = export_run(tmp_path, logs.LONGER, "csv")
    with (folder / "digits-2.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert [row["value"] for row in rows if row["name"] == "evaluation/accuracy"] == ["0.5", "0.75"]
    assert rows[0] == {"step": "10", "unix_seconds": "1795860002.000", "name": "train/loss", "value": "0.1"}
    with (folder / "digits-2-facts.csv").open() as lines:
        facts = {row["name"]: row["value"] for row in csv.DictReader(lines)}
    assert facts["engine"] == "horovod"
    assert {path.name for path in folder.iterdir()} == {"digits-2.csv", "digits-2-facts.csv"}


@pytest.mark.parametrize("parser", ["prometheus_client.parser", "prometheus_client.openmetrics.parser"])
def test_openmetrics_is_read_by_both_of_prometheus_parsers(tmp_path: Path, parser: str) -> None:
    """The textfile collector of the node exporter reads the older format; gauges are the same in both."""
    parse = pytest.importorskip(parser).text_string_to_metric_families
    export_run(tmp_path, logs.RUNNING, "openmetrics", logs.HALF)
    (path,) = export_run(tmp_path, logs.LONGER, "openmetrics").iterdir()
    assert path.name == "digits-2.prom"
    families = {family.name: family for family in parse(path.read_text())}
    assert {family.type for family in families.values()} == {"gauge"}
    samples = {name: family.samples[0] for name, family in families.items()}
    assert samples["hpc_dl_evaluation_accuracy"].value == 0.75
    assert samples["hpc_dl_evaluation_accuracy"].labels == {"run": "digits-2"}
    assert samples["hpc_dl_run_info"].labels["world_size"] == "2"
    assert samples["hpc_dl_run_ended"].value == 1
    assert samples["hpc_dl_step"].value == 40
    assert all(sample.timestamp is None for sample in samples.values())


def test_two_names_that_prometheus_takes_for_one_are_refused(tmp_path: Path) -> None:
    evaluation = logs.evaluation(20, 0.5)
    evaluation.metrics.update({"top-1": 0.1, "top.1": 0.2})
    run = logs.write(tmp_path, [logs.HEADER, evaluation])
    with pytest.raises(HpcDlError, match=r"'evaluation/top-1' and 'evaluation/top.1' are both"):
        export([run], "openmetrics", str(tmp_path))


@pytest.mark.parametrize("to", sorted(NAMES))
def test_a_job_that_has_only_begun_can_be_exported(tmp_path: Path, to: str) -> None:
    assert any(export_run(tmp_path, [logs.HEADER], to).iterdir())


def test_lines_that_cannot_be_read_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export_run(tmp_path, logs.RUNNING, "csv", logs.HALF)
    printed = capsys.readouterr()
    assert "digits-2: 23 values to" in printed.out
    assert "digits-2: left out line 5: not JSON" in printed.err


def test_an_unknown_tool_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["export", str(logs.write(tmp_path, logs.LONGER)), "--to", "tensorbord"]) == 2
    assert "did you mean tensorboard?" in capsys.readouterr().err


def test_two_runs_of_one_name_are_refused(tmp_path: Path) -> None:
    runs = [logs.write(tmp_path / name, logs.LONGER) for name in "ab"]
    with pytest.raises(HpcDlError, match="both are named digits-2"):
        export(runs, "csv", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("to", sorted(DESTINATIONS))
def test_a_missing_package_is_named_with_the_command(tmp_path: Path, to: str) -> None:
    """In a Python that has the standard library alone."""
    run = logs.write(tmp_path, logs.LONGER)
    words = [sys.executable, "-S", "-m", "hpc_dl.cli", "export", str(run), "--to", to, "--output", str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    if to == "csv":
        assert done.returncode == 0
    else:
        assert done.returncode == 2
        assert "cannot be imported" in done.stderr
        assert "pip install 'hpc_dl[export]'" in done.stderr
