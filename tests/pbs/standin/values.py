# SPDX-License-Identifier: Apache-2.0
"""What qsub's values look like and how its lists are cut, as OpenPBS 23.06 does it."""

from __future__ import annotations

import getopt
import re
import shlex

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
NUMBERS = {"ncpus", "mpiprocs", "ompthreads", "ngpus", "naccelerators"}
SIZES = {"mem", "vmem"}
# Option letter -> pattern of its value. -k: ecl_verify_values.c, verify_keepfiles_common; -N: ck_job_name.c.
VALUES = {
    "N": r"[A-Za-z0-9_+.-]+",
    "j": r"oe|eo|n",
    "k": r"(?=.*[eo])[deo]+|(?=.*n)[dn]+",
    "r": r"y|n",
    "m": r"n|j?[abe]+",
    "o": r".+",
    "e": r".+",
    "p": r"[+-]?\d+",
    "R": r"[eo]+",
    "c": r"[cwns]|[cw]=\d+",
    "J": r"\d+-\d+(:\d+)?(%\d+)?",
    "S": r"/[^,@]*(@[^,@]+)?(,/[^,@]*@[^,@]+)*",
    "a": r"(\d\d){2,6}(\.\d\d)?",
}
MAX_NAME = 230
PLACES = (r"free|pack|scatter|vscatter", r"excl|shared|exclhost", r"group=\w+")
"""Kinds of words in a place statement: each at most once, in any order."""
JOB = r"\d+(\[\])?(\.[\w.-]+)?(@[\w.-]+)?"
DEPENDENCIES = rf"((after|before)(ok|notok|any)?|runone)(:{JOB})+|on:\d+"
ATTRIBUTES = {
    "depend": rf"({DEPENDENCIES})(,({DEPENDENCIES}))*",
    "stagein": r"[^@]+@[^:]+:.+",
    "stageout": r"[^@]+@[^:]+:.+",
    "sandbox": r"(?i:home|o_workdir|private)",
    "group_list": r".+",
    "umask": r"\d+",
    "block": r"(?i:true|false)",
    "run_count": r"\d+",
    "tolerate_node_failures": r"all|job_start|none",
    "release_nodes_on_stageout": r"(?i:true|false)",
}
"""-W: what a value looks like, by name."""
UNDEFINED, BAD_VALUE, UNKNOWN_RESOURCE = 154, 166, 187
"""Exit codes of qsub: PBSE_NOATTR, PBSE_BADATVAL, PBSE_UNKRESC, as the shell sees them, modulo 256."""
WALLTIME = r"(?:(?:(\d+):)?(\d+):)?(\d+)(?:\.\d+)?"


USAGE = "usage: qsub [-a date_time] [-A account_string] [-c interval]"


class Refused(Exception):
    """qsub's message and exit code."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message if message.startswith("usage:") else f"qsub: {message}")
        self.code = code


def split(directive: str) -> list[str]:
    """The words of a directive."""
    try:
        return shlex.split(directive)
    except ValueError:
        raise Refused(f"unmatched quote in directive {directive.strip()}") from None


def complaint(error: getopt.GetoptError) -> str:
    """In the words of C's getopt."""
    if error.msg.endswith("requires argument"):
        return f"option requires an argument -- '{error.opt}'"
    return f"invalid option -- '{error.opt if len(error.opt) == 1 else '-'}'"


def read_resources(text: str) -> dict[str, str]:
    """name=value pairs with commas or blanks between them; blanks may stand around the =, none before a comma."""
    found: dict[str, str] = {}
    while text := text.lstrip():
        match = re.match(r"""([^=,\s]+)(?:\s*=\s*((?:[^\s,'"]|'[^']*'|"[^"]*")*))?(,\s*(?=\S)|\s+(?=[^\s,])|$)""", text)
        if match is None:
            raise Refused("illegal -l value", 2)
        found[match[1]] = re.sub("['\"]", "", match[2] or "")
        text = text[match.end() :]
    return found


def fits(name: str, value: str) -> bool:
    """Is it a value for this resource of a chunk?"""
    if name in NUMBERS:
        return value.isdigit()
    return name not in SIZES or re.fullmatch(r"\d+(?i:[kmgtp]?[bw])?", value) is not None


def bad_value(of: str) -> Refused:
    """The server's refusal of a value."""
    return Refused(f"Illegal attribute or resource value {of}", BAD_VALUE)


def read_attributes(text: str) -> dict[str, str]:
    """name=value[,name=value]; a comma inside a value belongs to it where no new name= follows (depend lists)."""
    items = [re.fullmatch(r"\s*(\w+)\s*=\s*(.*)", item, re.DOTALL) for item in re.split(r",(?=\s*\w+\s*=)", text)]
    if None in items:
        raise Refused("illegal -W value", 2)
    return {item[1]: item[2].strip("'\"") for item in items if item is not None}


def read_chunk(text: str) -> tuple[int, dict[str, str]]:
    """How many of a chunk, and what is in it."""
    count, rest = "1", text.split(":")
    if rest[0].isdigit():
        count, rest = rest[0], rest[1:]
    pairs = [item.partition("=") for item in rest]
    if count.strip("0") == "":
        raise Refused("Illegal attribute or resource value", BAD_VALUE)
    if not text or any(not name or not value for name, _, value in pairs):
        raise bad_value("Resource_List.select")
    names = [name for name, _, _ in pairs]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise Refused(f"duplicated resource within a section of a select specification, resource is: {twice}", 12)
    return int(count), {name: value for name, _, value in pairs}


def comma_split(text: str) -> list[str]:
    r"""Split at commas outside quotes, then drop the quotes; a backslash arrives twice, but for one before a comma."""
    if re.search(r"^,|,,", text):
        raise Refused("cannot send environment with the job")
    items = re.findall(r"""(?:[^,'"\\]|\\.|'[^']*'|"[^"]*")+""", text)
    return [re.sub(r"\\(?!,)", r"\\\\", re.sub("['\"]", "", item)).replace("\\,", ",") for item in items]
