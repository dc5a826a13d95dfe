# SPDX-License-Identifier: Apache-2.0
"""What the doctor says: one finding per check, and how findings are printed."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

Verdict = Literal["ok", "warn", "fail"]
WIDTH = 118


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    name: str
    verdict: Verdict
    found: str
    remedy: str = ""
    """What to do, as an instruction; empty where all is well."""


def exit_code(findings: Iterable[Finding]) -> int:
    """0 where nothing failed (warnings are allowed), else 1."""
    return int(any(finding.verdict == "fail" for finding in findings))


def to_text(finding: Finding) -> str:
    """A finding for a terminal or a batch log."""
    head = f"{finding.verdict:<5}{finding.name}: "
    lines = textwrap.wrap(head + finding.found, WIDTH, subsequent_indent=" " * 9, break_long_words=False)
    if finding.remedy:
        remedy = f"     What to do: {finding.remedy}"
        lines += textwrap.wrap(remedy, WIDTH, initial_indent="", subsequent_indent=" " * 9, break_long_words=False)
    return "\n".join(lines)


def to_json(finding: Finding) -> str:
    """A finding as one line of JSON."""
    return json.dumps(asdict(finding))


def summary(findings: Iterable[Finding]) -> str:
    """Counts of verdicts, in a sentence."""
    verdicts = [finding.verdict for finding in findings]
    return f"{verdicts.count('ok')} checks ok, {verdicts.count('warn')} warnings, {verdicts.count('fail')} failed"
