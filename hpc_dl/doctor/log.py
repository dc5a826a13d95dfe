# SPDX-License-Identifier: Apache-2.0
"""Read the log of a failed job and name the likely cause."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from hpc_dl.doctor.finding import Finding, Verdict
from hpc_dl.doctor.signatures import ORDER, Signature, signatures
from hpc_dl.errors import HpcDlError

SHOWN = 6
LONGEST_LINE = 2000
VERDICTS: dict[str, Verdict] = {"cause": "fail", "ambiguous": "warn", "cascade": "warn", "harmless": "ok"}
STARTED = re.compile(r"\bengine \S+ over \S+")
STEPPED = re.compile(r"\bstep \d+|^\{\"kind\":\"window\"|\bepoch \d+")
PROGRESS = re.compile(r"\bstep \d+/\d+ ")
FINISHED = re.compile(r"hpc_dl job: finished|run folder: ")
COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


@dataclass
class Match:
    """A signature with the values of its groups, and where it was seen."""

    signature: Signature
    values: dict[str, str]
    line: int
    """Number of the first line, from 1."""
    text: str
    count: int = 1


@dataclass
class Reading:
    """What a log shows."""

    matches: dict[tuple[str, ...], Match] = field(default_factory=dict)
    lines: int = 0
    started: int = 0
    """Line on which the ranks had met; 0 if they had not."""
    stepped: bool = False
    finished: bool = False
    last: str = ""


def read_log(path: Path) -> list[Finding]:
    """Findings of a job's log, the likely cause first.

    Raises:
        HpcDlError: There is no such file.
    """
    try:
        with path.open(encoding="utf-8", errors="replace") as lines:
            return explain(lines)
    except OSError as error:
        raise HpcDlError(f"log {path}", error.strerror or "cannot be read", "name the job's output file") from None


def explain(lines: Iterable[str]) -> list[Finding]:
    """Findings of a log given line by line; it is read once and may be long."""
    reading = Reading()
    for line in lines:
        _take(reading, COLOURS.sub("", line.rstrip("\n"))[:LONGEST_LINE])
    ordered = sorted(reading.matches.values(), key=lambda match: (ORDER.index(match.signature.weight), match.line))
    findings = [_finding(match, likely=index == 0) for index, match in enumerate(ordered[:SHOWN])]
    if len(ordered) > SHOWN:
        rest = ", ".join(dict.fromkeys(match.signature.name for match in ordered[SHOWN:]))
        findings.append(Finding("more", "ok", f"{len(ordered) - SHOWN} further signatures: {rest}"))
    decisive = any(match.signature.weight == "cause" for match in ordered)
    return findings if decisive else [*_from_silence(reading), *findings]


def _take(reading: Reading, line: str) -> None:
    reading.lines += 1
    if not line.strip():
        return
    reading.last = line
    reading.started = reading.started or (reading.lines if STARTED.search(line) else 0)
    reading.stepped = reading.stepped or bool(reading.started and STEPPED.search(line))
    if PROGRESS.search(line) and "nan" not in line:
        return  # most lines of a long log: they can tell of no other failure
    reading.finished = reading.finished or bool(FINISHED.search(line))
    for signature in signatures():
        if match := signature.pattern.search(line):
            values = {name: value or "" for name, value in match.groupdict().items()}
            key = (signature.name, *sorted(values.values()))
            known = reading.matches.get(key)
            if known is None:
                reading.matches[key] = Match(signature, values, reading.lines, line.strip())
            else:
                known.count += 1
            return


class _Values(dict[str, str]):
    def __missing__(self, name: str) -> str:
        return "?" if name in ("node", "rank", "code") else ""


def _finding(match: Match, likely: bool) -> Finding:
    signature = match.signature
    values = _Values({name: value for name, value in match.values.items() if value})
    times = f", {match.count} times" if match.count > 1 else ""
    head = "likely cause: " if likely and signature.weight == "cause" else ""
    found = f"{head}{signature.meaning.format_map(values)} (line {match.line}{times}: {match.text[:160]})"
    remedy = "" if signature.weight == "harmless" else f"{signature.advice.format_map(values)} [{signature.source}]"
    return Finding(signature.name, VERDICTS[signature.weight], found, remedy)


def _from_silence(reading: Reading) -> list[Finding]:
    """What a log tells by what is not in it."""
    if reading.finished:
        return [Finding("log", "ok", f"the run came to its end; {reading.lines} lines without a known failure")]
    if not reading.lines or not reading.last:
        remedy = "look at the job's comment (qstat -xf ID, scontrol show job ID); the folder of the output must exist"
        return [Finding("empty log", "warn", "the job wrote nothing", remedy)]
    if reading.started and not reading.stepped:
        found = f"the ranks had met (line {reading.started}) and no step followed: a hang in the first collective"
        remedy = "on Aurora CCL_OP_SYNC=1, and the device before the process group; run hpc-dl doctor on the ranks"
        return [Finding("first collective", "warn", found, f"{remedy} [ezpz docs/troubleshooting.md]")]
    if reading.stepped:
        found = f"training went on and the log stops with: {reading.last[:160]}"
        remedy = "a hang, or a kill from outside: compare the job's length with its walltime; py-spy dump shows stacks"
        return [Finding("sudden silence", "warn", found, remedy)]
    found = f"no known signature in {reading.lines} lines; the last one: {reading.last[:160]}"
    return [Finding("unknown", "warn", found, "read the first error of a rank; run hpc-dl doctor on the job's nodes")]
