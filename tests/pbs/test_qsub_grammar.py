# SPDX-License-Identifier: Apache-2.0
"""The stand-in's qsub takes what OpenPBS takes and refuses what it refuses, in its words."""

from __future__ import annotations

from pathlib import Path

import pytest
from standin.request import Refused, Request

GOOD = ["-A", "proj", "-l", "select=2", "-l", "walltime=00:30:00"]


def request(words: list[str], script: str = "") -> Request:
    made = Request()
    made.add(words)
    made.add_script(script)
    made.check({"system"}, {"filesystems"})
    return made


@pytest.mark.parametrize(
    "words",
    [
        GOOD,
        [*GOOD, "-l", "place=scatter"],
        [*GOOD, "-l", "place=scatter:group=tier0"],
        [*GOOD, "-l", "place=free:excl"],
        [*GOOD, "-l", "filesystems=home:flare"],
        ["-l", "select=2:ncpus=208:mpiprocs=12+1:mem=4gb:host=x1"],
        ["-l", "select=ncpus=4,walltime=90"],
        ["-l", "walltime=1:30"],
        ["-l", "nodes=2"],
        ["-l", "ncpus=4,mem=4gb"],
        ["-N", "digits.2-nodes_1+x", "-j", "oe", "-k", "doe", "-r", "n", "-m", "abe", "-p", "-5"],
        ["-k", "dn"],
        ["-o", "/tmp/log", "-e", "host:/tmp/log", "-q", "debug@server"],
        ["-W", "depend=afterany:12.server:13,umask=022"],
        ["-W", "depend=afterok:1,afternotok:2"],
        ["-J", "0-9:2%3"],
        ["-v", "A=1,B='x,y'", "-V"],
    ],
    ids=" ".join,
)
def test_legal_requests(words: list[str]) -> None:
    request(words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-N", "two words"], "illegal -N value"),
        (["-N", "semi;colon"], "illegal -N value"),
        (["-N", "x" * 231], "illegal -N value"),
        (["-j", "both"], "illegal -j value"),
        (["-k", "d"], "illegal -k value"),
        (["-k", "on"], "illegal -k value"),
        (["-r", "yes"], "illegal -r value"),
        (["-p", "5000"], "illegal -p value"),
        (["-x"], "option -x not recognized"),
        (["--nodes=2"], "option --nodes not recognized"),
        (["-l", "walltime=1h"], "Illegal attribute or resource value: Resource_List.walltime"),
        (["-l", "walltime=1:2:3:4"], "Illegal attribute or resource value: Resource_List.walltime"),
        (["-l", "gpus=4"], "Unknown resource: gpus"),
        (["-l", "select=2:gpus=4"], "Unknown resource: gpus"),
        (["-l", "select=2:walltime=60"], 'Resource invalid in "select" specification: walltime'),
        (["-l", "select=0"], "Resource_List.select"),
        (["-l", "select=2:ncpus"], "Resource_List.select"),
        (["-l", "select=2:ncpus=1:ncpus=2"], "duplicated resource within a section"),
        (["-l", "place=scatter"], 'Cannot have "place" without "select"'),
        (["-l", "select=1", "-l", "place=scattered"], "Resource_List.place"),
        (["-l", "select=1", "-l", "place=:scatter"], "Resource_List.place"),
        (["-l", "select=1", "-l", "ncpus=4"], '"-lresource=" cannot be used with "select" or "place"'),
        (["-l", "select=1", "-l", "nodes=4"], "Cannot be used with select or place"),
        (["-l", "select = 2 x"], "illegal -l value"),
        (["-W", "depends=afterok:1"], "Undefined attribute : depends"),
        (["-W", "depend=whenever:1"], "illegal -W value"),
        (["-W", "depend=afterok"], "illegal -W value"),
        (["-v", "NO_SUCH_VARIABLE"], "cannot send environment with the job"),
        (["--"], "usage"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_illegal_requests(words: list[str], message: str) -> None:
    with pytest.raises(Refused, match="qsub: ") as refusal:
        request(words).variables({})
    assert message in str(refusal.value)


def test_the_command_line_is_stronger_than_directives() -> None:
    script = "#!/bin/bash -l\n#PBS -N inside -q prod\n#PBS -l select=1,walltime=60\n\necho\n#PBS -N late\n"
    made = request(["-N", "outside", "-l", "select=2"], script)
    assert made.options == {"N": "outside", "q": "prod"}
    assert made.resources == {"select": "2", "walltime": "60"}


def test_directives_end_at_the_first_command_not_at_comments() -> None:
    made = request([], "#!/bin/sh\n# a comment\n\n  #PBS -A early\ncd /tmp\n#PBS -A late\n")
    assert made.options == {"A": "early"}


@pytest.mark.parametrize("line", ["#PBS -A proj # who pays", "#PBS -N a b", "#PBS script.sh", "#PBS -N 'open"])
def test_words_behind_a_directive_are_refused(line: str) -> None:
    with pytest.raises(Refused, match="directive"):
        request([], f"#!/bin/sh\n{line}\n")


def test_carriage_returns_are_refused() -> None:
    with pytest.raises(Refused, match="cr, lf"):
        request([], "#!/bin/sh\r\n#PBS -N a\r\n")


def test_variables_and_quotes() -> None:
    made = request(["-v", "ONE=1,LIST='a,b',FROM_SHELL,EMPTY="])
    assert made.variables({"FROM_SHELL": "x y"}) == {"ONE": "1", "LIST": "a,b", "FROM_SHELL": "x y", "EMPTY": ""}


def test_walltime_forms() -> None:
    seconds = {text: request(["-l", f"walltime={text}"]).walltime_seconds for text in ("90", "1:30", "1:00:00")}
    assert seconds == {"90": 90, "1:30": 90, "1:00:00": 3600}


def test_a_path_is_not_a_script(tmp_path: Path) -> None:
    made = request(["-l", "select=1", str(tmp_path)])
    assert made.operands == [str(tmp_path)]
