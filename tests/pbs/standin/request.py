# SPDX-License-Identifier: Apache-2.0
"""What is asked of qsub: options and directives, checked as OpenPBS 23.06 does (qsub(1B), pbs_resources(7B)).

Held against a real OpenPBS 23.06.06 with about 290 command lines and directive blocks: messages, exit codes, and what
it makes of those it takes.
"""

from __future__ import annotations

import getopt
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from standin.values import (
    ATTRIBUTES,
    CHUNK_RESOURCES,
    JOB_RESOURCES,
    MAX_NAME,
    OPTIONS,
    PLACES,
    UNDEFINED,
    UNKNOWN_RESOURCE,
    USAGE,
    VALUES,
    WALLTIME,
    Refused,
    bad_value,
    comma_split,
    complaint,
    fits,
    read_attributes,
    read_chunk,
    read_resources,
    split,
)


@dataclass
class Request:
    """A job as asked for; `options` by letter, the command line over the directives."""

    options: dict[str, str] = field(default_factory=dict)
    resources: dict[str, str] = field(default_factory=dict)
    attributes: dict[str, str] = field(default_factory=dict)
    operands: list[str] = field(default_factory=list)
    executable: list[str] = field(default_factory=list)

    def add(self, words: Sequence[str], *, directive: bool = False) -> None:
        """Take in one command line or the words of one directive; the last occurrence of an option counts."""
        try:
            pairs, rest = getopt.getopt(list(words), OPTIONS)
        except getopt.GetoptError as error:
            raise Refused(f"{complaint(error)}\n{USAGE}", 1 if directive else 2) from None
        cut = len(rest) < len(words) and words[len(words) - len(rest) - 1] == "--"
        if directive and (rest or cut):
            raise Refused(f"directive error: {' '.join(words)}")
        if (cut and not rest) or (not cut and len(rest) > 1):
            raise Refused(USAGE, 2)
        for option, value in pairs:
            if option == "-l" and directive:  # the first counts, but on the command line the last
                self.resources = read_resources(value) | self.resources
            elif option == "-l":
                self.resources |= read_resources(value)
            elif option == "-W":
                self.attributes |= read_attributes(value)
            else:
                self.options[option[1]] = value
        if not directive:
            self.operands, self.executable = ([], rest) if cut else (rest, [])

    def add_script(self, text: str) -> None:
        """Take in a script's directives: those above its first command (check_job_script.c)."""
        if "\r\n" in text:
            raise Refused("script contains cr, lf")
        from_script, prefix = Request(), self.options.get("C", "#PBS")
        for line in text.splitlines():
            if prefix and line.lstrip().startswith(prefix):
                from_script.add(split(line.lstrip()[len(prefix) :]), directive=True)
            elif line.strip() and line.strip()[0] not in "#:":
                break
        self.options = from_script.options | self.options
        self.resources = from_script.resources | self.resources
        self.attributes |= from_script.attributes  # of -W the script's counts, also against the command line

    def check(self, chunk_resources: set[str], job_resources: set[str]) -> None:
        """Refuse what the server refuses."""
        for letter, pattern in VALUES.items():
            if letter in self.options and not re.fullmatch(pattern, self.options[letter]):
                raise Refused(f"illegal -{letter} value", 2)
        if len(self.options.get("N", "")) > MAX_NAME:
            raise Refused("Job name is too long", 2)
        if not -1024 <= int(self.options.get("p", "0")) <= 1023:
            raise Refused("illegal -p value", 2)
        if "j" in self.options.get("m", "") and "J" not in self.options:
            raise Refused("mail option 'j' can not be used without array job")
        for name, value in self.attributes.items():
            if not re.fullmatch(ATTRIBUTES.get(name, ".*"), value):
                raise Refused("illegal -W value", 2)
        if set(self.attributes) - set(ATTRIBUTES):
            raise Refused("Error (15002) submitting job", UNDEFINED)
        self._check_resources(CHUNK_RESOURCES | chunk_resources, JOB_RESOURCES | job_resources)
        self.resources = {name: value for name, value in self.resources.items() if value}

    def _check_resources(self, chunk_level: set[str], job_level: set[str]) -> None:
        new_style = {"select", "place"} & set(self.resources)
        if "nodes" in self.resources and new_style:
            raise Refused("Cannot be used with select or place: nodes", 6)
        if "place" in self.resources and "select" not in self.resources:
            raise Refused('Cannot have "place" without "select"', 7)
        for name, value in self.resources.items():
            if name in ("select", "place", "nodes"):
                continue
            if name not in chunk_level | job_level:
                raise Refused(f"Unknown resource Resource_List.{name}", UNKNOWN_RESOURCE)
            if name in chunk_level and new_style:
                raise Refused(f'"-lresource=" cannot be used with "select" or "place", resource is: {name}', 5)
            if value and name.endswith("walltime") and not re.fullmatch(WALLTIME, value):
                raise bad_value(f"Resource_List.{name}")
        for _, chunk in self.chunks():
            for name, value in chunk.items():
                if name in job_level - chunk_level:
                    raise Refused(f'Resource invalid in "select" specification: {name}', 4)
                if name not in chunk_level:
                    raise Refused(f"Unknown resource: {name}", UNKNOWN_RESOURCE)
                if not fits(name, value):
                    raise bad_value(f"select.{name}")
        words = self.resources.get("place", "free").lower().split(":")
        kinds = [next((kind for kind in PLACES if re.fullmatch(kind, word)), None) for word in words]
        if None in kinds or len(set(kinds)) < len(kinds):
            raise bad_value("Resource_List.place")

    def chunks(self) -> list[tuple[int, dict[str, str]]]:
        """The select statement: how many of each chunk, and what is in it."""
        if "select" not in self.resources:
            count = self.resources.get("nodes", "1").split(":")[0]
            return [(int(count) if count.isdigit() else 1, {"ncpus": self.resources.get("ncpus", "1")})]
        return [read_chunk(text) for text in self.resources["select"].split("+")]

    @property
    def walltime_seconds(self) -> int | None:
        match = re.fullmatch(WALLTIME, self.resources.get("walltime", ""))
        return (
            None
            if match is None
            else sum(int(part or 0) * unit for part, unit in zip(match.groups(), (3600, 60, 1), strict=True))
        )

    def variables(self, environ: Mapping[str, str]) -> dict[str, str]:
        """The variables -v and -V pass on; quotes guard commas (qsub(1B), -v)."""
        passed = dict(environ) if "V" in self.options else {}
        for item in comma_split(self.options.get("v", "")):
            name, equals, value = item.partition("=")
            if not name or (not equals and name not in environ):
                raise Refused("cannot send environment with the job")
            passed[name] = value if equals else environ[name]
        return passed
