# SPDX-License-Identifier: Apache-2.0
"""The run log: what is written comes back, and what is broken is named."""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from hpc_dl.errors import HpcDlError
from hpc_dl.runlog import records
from tests.scaling import synthetic

HEADER = synthetic.header(8, binding={"threads": [1, 2]}, settings={"training": {"epochs": 3}})
WINDOW = synthetic.windows(HEADER, [0.5])[1]
EVALUATION = records.Evaluation(step=20, epoch=1, samples=360, seconds=0.1, metrics={"accuracy": 0.98})
END = records.End("finished", 20, 1280, 10.0, 2.0, 0.5)


@pytest.mark.parametrize("record", [HEADER, WINDOW, EVALUATION, END], ids=lambda record: record.kind)
def test_a_record_comes_back_as_it_was(record: records.Record) -> None:
    assert records.from_line(records.to_line(record)) == record


def test_a_loss_that_is_not_a_number_is_kept() -> None:
    back = records.from_line(records.to_line(replace(WINDOW, loss=math.nan)))
    assert isinstance(back, records.Window)
    assert math.isnan(back.loss)


def test_the_format_grows_without_a_new_version() -> None:
    values = json.loads(records.to_line(HEADER))
    del values["epoch_samples"]
    values["of_a_later_release"] = 1
    back = records.from_line(json.dumps(values))
    assert isinstance(back, records.Header)
    assert back.epoch_samples == 0


WINDOW_LINE = json.loads(records.to_line(WINDOW))
BROKEN = {
    "half": (records.to_line(WINDOW)[:100], "not JSON"),
    "list": ("[1, 2]", "no known kind"),
    "kind": ('{"kind": "dream", "version": 1}', "no known kind"),
    "version": ('{"kind": "end", "version": 99}', "version 99, this hpc_dl reads 1"),
    "missing": (json.dumps({"kind": "end", "version": 1, "reason": "finished"}), "end: no steps"),
    "type": (json.dumps({**WINDOW_LINE, "steps": "ten"}), "window: steps: 'ten' is not of type int"),
    "truth": (json.dumps({**WINDOW_LINE, "samples": True}), "window: samples: True is not of type int"),
    "spread": (json.dumps({**WINDOW_LINE, "seconds": 3.0}), "window: seconds: 3.0 is not of type dict"),
    "inner": (json.dumps({**WINDOW_LINE, "phases": {"input": {"mean": 1}}}), "window: phases: no min"),
    "no time": (json.dumps({**WINDOW_LINE, "seconds": asdict(synthetic.even(0.0))}), "10 steps in 0.0 seconds"),
    "nan": (json.dumps({**WINDOW_LINE, "seconds": asdict(synthetic.even(math.nan))}), "10 steps in nan seconds"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_line_says_what_is_wrong(case: str) -> None:
    line, message = BROKEN[case]
    with pytest.raises(ValueError, match=re.escape(message)):
        records.from_line(line)


def test_a_log_with_broken_lines_is_read_and_they_are_named(tmp_path: Path) -> None:
    folder = synthetic.write(tmp_path, HEADER, [0.5] * 4)
    with (folder / records.LOG_NAME).open("ab") as log:
        log.write(b'{"kind":"win\xff')
    run = records.read_run(folder)
    assert len(run.windows) == 5
    assert len(run.steady) == 4
    assert run.end is not None
    assert run.end.reason == "finished"
    assert len(run.broken) == 1
    assert run.broken[0].startswith("line 8: not JSON")


def test_a_log_of_two_jobs_has_two_parts(tmp_path: Path) -> None:
    folder = synthetic.write(tmp_path, HEADER, [0.5] * 4)
    synthetic.write(tmp_path, replace(HEADER, world_size=4), [0.7] * 2)
    parts, broken = records.read_parts(folder)
    assert [part.header.world_size for part in parts] == [8, 4]
    assert [len(part.steady) for part in parts] == [4, 2]
    assert broken == ()


def test_a_log_without_header_is_refused(tmp_path: Path) -> None:
    (tmp_path / records.LOG_NAME).write_text(records.to_line(END) + "\n")
    with pytest.raises(HpcDlError, match="no readable header"):
        records.read_run(tmp_path)
