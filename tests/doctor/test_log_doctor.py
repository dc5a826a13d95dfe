# SPDX-License-Identifier: Apache-2.0
"""The log reader names the likely cause: by single lines, by what they mean together, and of real failures."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from log_examples import LINES

from hpc_dl.doctor.log import explain, read_log
from hpc_dl.doctor.signatures import ORDER, signatures
from hpc_dl.errors import HpcDlError

PALS_CASCADE = [f"x4101c0s{n}b0n0: rank {n} died from signal 15" for n in range(5)]


@pytest.mark.parametrize(("name", "line", "words"), LINES, ids=[f"{name}: {words}" for name, _, words in LINES])
def test_every_signature(name: str, line: str, words: str) -> None:
    findings = explain(["some line", line, "another line"])
    finding = next(finding for finding in findings if finding.name == name)
    assert words in finding.found
    assert "(line 2: " in finding.found
    weight = next(signature.weight for signature in signatures() if signature.name == name)
    assert bool(finding.remedy) == (weight != "harmless")
    assert (finding.verdict == "fail") == (weight == "cause")


def test_every_row_of_the_table_has_an_example() -> None:
    covered = {next(row for row in signatures() if row.pattern.search(line)).pattern.pattern for _, line, _ in LINES}
    missing = [row.pattern.pattern for row in signatures() if row.pattern.pattern not in covered]
    assert missing == []
    assert {row.weight for row in signatures()} <= set(ORDER)


@pytest.mark.parametrize(
    "line",
    [
        "the ranks run /usr/bin/julia",
        "no report: the ranks left no log.jsonl in runs/x",
        "no libnccl-net.so on LD_LIBRARY_PATH: NCCL may use slow sockets between nodes (docs/machines)",
    ],
)
def test_what_a_job_says_by_the_way_is_no_cause(line: str) -> None:
    (finding,) = explain([f"hpc_dl job: {line}", "hpc_dl job: finished: runs/x"])
    assert (finding.name, finding.verdict) == ("log", "ok")


def test_the_child_node_is_blamed() -> None:
    findings = explain(["ping failed on x4101c0s0b0n0: No reply from x4502c3s2b0n0", *PALS_CASCADE])
    assert findings[0].found.startswith("likely cause: node x4502c3s2b0n0")
    assert "leave node x4502c3s2b0n0 out" in findings[0].remedy
    assert "leave node x4101c0s0b0n0" not in " ".join(finding.remedy for finding in findings)


def test_the_rank_with_a_code_of_its_own_comes_before_those_that_were_killed() -> None:
    findings = explain([*PALS_CASCADE, "x4101c0s7b0n0: rank 7 exited with code 3", "mpiexec exited with status 143"])
    assert findings[0].found.startswith("likely cause: rank 7 ended with code 3")
    assert "read what rank 7 printed" in findings[0].remedy


def test_143_alone_is_ambiguous() -> None:
    findings = explain(["[0] engine torch over gloo", "[0] step 4/10 ", "mpiexec exited with status 143"])
    assert all("likely cause" not in finding.found for finding in findings)
    text = " ".join(finding.found + finding.remedy for finding in findings)
    assert "end of the walltime as well as after a crash" in text
    assert "compare the job's length with its walltime" in text


def test_143_with_the_schedulers_word_is_the_walltime() -> None:
    findings = explain(["mpiexec exited with status 143", "=>> PBS: job killed: walltime 61 exceeded limit 60"])
    assert "likely cause: the job ran into its walltime of 60 s" in findings[0].found


def test_of_two_causes_the_first_counts_and_repeats_are_counted() -> None:
    oom, gone = "CUDA out of memory", "OSError: [Errno 28] No space left on device"
    findings = explain([gone, oom, gone, gone])
    assert findings[0].name == "disk full"
    assert "line 1, 3 times" in findings[0].found
    assert [finding.name for finding in findings] == ["disk full", "device memory"]


@pytest.mark.parametrize(
    ("lines", "name"),
    [
        ([], "empty log"),
        (["", "  "], "empty log"),
        (["[0] engine torch over xccl for xpu"], "first collective"),
        (["[0] engine torch over xccl for xpu", "[0] step 40/100  loss 0.3"], "sudden silence"),
        (["Traceback (most recent call last):", "KeyError: 'x'"], "unknown"),
        (["[0] engine torch over gloo", "[0] step 9/9 ", "[0] run folder: runs/a"], "log"),
    ],
)
def test_what_silence_tells(lines: list[str], name: str) -> None:
    finding = explain(lines)[0]
    assert finding.name == name
    assert finding.verdict == ("ok" if name == "log" else "warn")


def test_more_signatures_than_are_shown_are_named() -> None:
    findings = explain(line for _, line, _ in LINES)
    assert findings[-1].name == "more"
    assert "further signatures" in findings[-1].found
    assert len(findings) < 10


def test_colours_and_labels_do_not_hide_a_line() -> None:
    assert explain(["\x1b[31m17: \x1b[0mCUDA out of memory\x1b[0m"])[0].name == "device memory"


def test_a_log_is_read_from_a_file_with_broken_bytes(tmp_path: Path) -> None:
    log = tmp_path / "job.o1"
    log.write_bytes(b"\xff\xfe broken\nhpc-dl: rank 1 of 2 on n2 failed: ValueError: no\n")
    assert "rank 1 on n2 failed: ValueError: no" in read_log(log)[0].found
    with pytest.raises(HpcDlError, match="No such file"):
        read_log(tmp_path / "none")


@given(st.lists(st.text(alphabet=string.printable, max_size=80), max_size=20), st.sampled_from(LINES))
def test_any_text_around_a_line_is_survived(noise: list[str], example: tuple[str, str, str]) -> None:
    name, line, _ = example
    findings = explain([*noise, line])
    assert findings
    assert name in {finding.name for finding in findings} or any(finding.name == "more" for finding in findings)
