# SPDX-License-Identifier: Apache-2.0
"""What is asked of qsub: options and directives, checked as OpenPBS 23 does (qsub(1B), pbs_resources(7B))."""

from __future__ import annotations

import getopt
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

OPTIONS = "a:A:c:C:e:fhIj:J:k:l:m:M:N:o:p:q:r:R:S:u:v:VW:XzP:"
CHUNK_RESOURCES = {"ncpus", "mem", "vmem", "mpiprocs", "ompthreads", "ngpus", "host", "vnode", "arch", "naccelerators"}
JOB_RESOURCES = {
    "walltime",
    "min_walltime",
    "max_walltime",
    "cput",
    "pcput",
    "pmem",
    "pvmem",
    "file",
    "nice",
    "software",
}
ATTRIBUTES = {"depend", "stagein", "stageout", "sandbox", "group_list", "umask", "block", "run_count"}
ATTRIBUTES |= {"tolerate_node_failures", "release_nodes_on_stageout", "create_resv_from_job", "interactive", "pwd"}
# Option letter -> pattern of its value. -k: ecl_verify_values.c, verify_keepfiles_common; -N: ck_job_name.c.
VALUES = {
    "N": r"[A-Za-z0-9_+.-]{1,230}",
    "j": r"oe|eo|n",
    "k": r"(?=.*[eo])[deo]+|(?=.*n)[dn]+",
    "r": r"y|n",
    "m": r"n|j?[abe]+",
    "p": r"-?\d+",
    "R": r"[eo]+",
    "c": r"[cwns]|[cw]=\d+",
    "J": r"\d+-\d+(:\d+)?(%\d+)?",
}
PLACES = r"free|pack|scatter|vscatter|excl|shared|exclhost|group=\w+"
DEPENDENCIES = r"(after|afterok|afternotok|afterany|before|beforeok|beforenotok|beforeany|on)(:[^:,]+)+"
WALLTIME = r"(?:(?:(\d+):)?(\d+):)?(\d+)(?:\.\d+)?"


class Refused(Exception):
    """qsub's message and exit code."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(f"qsub: {message}")
        self.code = code


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
        words, executable = _cut(words)
        try:
            pairs, operands = getopt.gnu_getopt(words, OPTIONS)
        except getopt.GetoptError as error:
            raise Refused(f"{error.msg}\nusage: qsub [-A account] [-l resources] ...", 2) from None
        if directive and (operands or executable):
            raise Refused(f"directive error: {' '.join(words)}")
        for option, value in pairs:
            if option == "-l":
                self.resources |= _resources(value)
            elif option == "-W":
                self.attributes |= _attributes(value)
            else:
                self.options[option[1]] = value
        if not directive:
            self.operands, self.executable = operands, executable

    def add_script(self, text: str) -> None:
        """Take in a script's directives: those above its first command (check_job_script.c)."""
        if "\r\n" in text:
            raise Refused("script contains cr, lf")
        from_script = Request()
        for line in text.splitlines():
            if line.lstrip().startswith("#PBS"):
                from_script.add(_split(line.lstrip()[4:]), directive=True)
            elif line.strip() and line.strip()[0] not in "#:":
                break
        self.options = from_script.options | self.options
        self.resources = from_script.resources | self.resources
        self.attributes = from_script.attributes | self.attributes

    def check(self, chunk_resources: set[str], job_resources: set[str]) -> None:
        """Refuse what the server refuses."""
        for letter, pattern in VALUES.items():
            if letter in self.options and not re.fullmatch(pattern, self.options[letter]):
                raise Refused(f"illegal -{letter} value", 2)
        if not -1024 <= int(self.options.get("p", "0")) <= 1023:
            raise Refused("illegal -p value", 2)
        if unknown := set(self.attributes) - ATTRIBUTES:
            raise Refused(f"Undefined attribute : {min(unknown)}")
        if not re.fullmatch(rf"{DEPENDENCIES}(,{DEPENDENCIES})*", self.attributes.get("depend", "on:1")):
            raise Refused("illegal -W value", 2)
        self._check_resources(CHUNK_RESOURCES | chunk_resources, JOB_RESOURCES | job_resources)

    def _check_resources(self, chunk_level: set[str], job_level: set[str]) -> None:
        new_style = {"select", "place"} & set(self.resources)
        if "nodes" in self.resources and new_style:
            raise Refused("Cannot be used with select or place: nodes")
        if "place" in self.resources and "select" not in self.resources:
            raise Refused('Cannot have "place" without "select"')
        for name, value in self.resources.items():
            if name in ("select", "place", "nodes"):
                continue
            if name not in chunk_level | job_level:
                raise Refused(f"Unknown resource: {name}")
            if name in chunk_level and new_style:
                raise Refused(f'"-lresource=" cannot be used with "select" or "place", resource is: {name}')
            if not value or (name.endswith("walltime") and not re.fullmatch(WALLTIME, value)):
                raise Refused(f"Illegal attribute or resource value: Resource_List.{name}")
        for _, chunk in self.chunks():
            for name in chunk:
                if name not in chunk_level:
                    known = 'Resource invalid in "select" specification' if name in job_level else "Unknown resource"
                    raise Refused(f"{known}: {name}")
        if not re.fullmatch(rf"({PLACES})(:({PLACES}))*", self.resources.get("place", "free")):
            raise Refused("Illegal attribute or resource value: Resource_List.place")

    def chunks(self) -> list[tuple[int, dict[str, str]]]:
        """The select statement: how many of each chunk, and what is in it."""
        if "select" not in self.resources:
            count = self.resources.get("nodes", "1").split(":")[0]
            return [(int(count) if count.isdigit() else 1, {"ncpus": self.resources.get("ncpus", "1")})]
        return [_chunk(text) for text in self.resources["select"].split("+")]

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
        for item in _comma_split(self.options.get("v", "")):
            name, equals, value = item.partition("=")
            if not equals and name not in environ:
                raise Refused("cannot send environment with the job")
            passed[name] = value if equals else environ[name]
        return passed


def _split(directive: str) -> list[str]:
    try:
        return shlex.split(directive)
    except ValueError:
        raise Refused(f"unmatched quote in directive {directive.strip()}") from None


def _cut(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separate "-- executable arguments"."""
    words = list(words)
    if "--" not in words:
        return words, []
    at = words.index("--")
    if at == len(words) - 1:
        raise Refused("usage: qsub ... -- executable [arguments]", 2)
    return words[:at], words[at + 1 :]


def _resources(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in text.split(","):
        name, _, value = item.strip().partition("=")
        if not name or re.search(r"\s", value):
            raise Refused("illegal -l value", 2)
        found[name] = value
    return found


def _attributes(text: str) -> dict[str, str]:
    """name=value[,name=value]; a comma inside a value belongs to it where no new name= follows (depend lists)."""
    items = re.split(r",(?=\w+=)", text.strip())
    if not all(re.fullmatch(r"\w+(=.*)?", item, re.DOTALL) for item in items):
        raise Refused("illegal -W value", 2)
    return {item.partition("=")[0]: item.partition("=")[2].strip("'\"") for item in items}


def _chunk(text: str) -> tuple[int, dict[str, str]]:
    count, rest = "1", text.split(":")
    if rest[0].isdigit():
        count, rest = rest[0], rest[1:]
    pairs = [item.partition("=") for item in rest]
    if not text or int(count) < 1 or any(not name or not value for name, _, value in pairs):
        raise Refused("Illegal attribute or resource value: Resource_List.select")
    names = [name for name, _, _ in pairs]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise Refused(f"duplicated resource within a section of a select specification, resource is: {twice}")
    return int(count), {name: value for name, _, value in pairs}


def _comma_split(text: str) -> list[str]:
    """Split at commas outside quotes, then drop the quotes."""
    items = re.findall(r"""(?:[^,'"\\]|\\.|'[^']*'|"[^"]*")+""", text)
    return ["".join(shlex.split(item.replace("\\,", ","))) if re.search("['\"]", item) else item for item in items]
