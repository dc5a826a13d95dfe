# SPDX-License-Identifier: Apache-2.0
"""The stand-in's qsub takes what OpenPBS takes and refuses what it refuses, in its words."""

from __future__ import annotations

from pathlib import Path

import pytest
from standin.request import Refused, Request

SELECT = ["-l", "select=1"]
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
        ["-l", " select = 2 walltime=300, software='a b'"],
        [*SELECT, "-l", "place=excl:group=host:SCATTER"],
        ["-W", "depend=runone:1, umask = 22"],
        ["-p", "+5", "-a", "2312", "-S", "/bin/bash@n1,/bin/sh@n2", "-N", "-dash"],
    ],
    ids=" ".join,
)
def test_legal_requests(words: list[str]) -> None:
    request(words)


BAD, UNKNOWN = "Illegal attribute or resource value", "Unknown resource"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["-N", "two words"], 2, "illegal -N value"),
        (["-N", "semi;colon"], 2, "illegal -N value"),
        (["-N", "a/b"], 2, "illegal -N value"),
        (["-N", ""], 2, "illegal -N value"),
        (["-N", "x" * 231], 2, "Job name is too long"),
        (["-j", "both"], 2, "illegal -j value"),
        (["-k", "d"], 2, "illegal -k value"),
        (["-k", "on"], 2, "illegal -k value"),
        (["-r", "yes"], 2, "illegal -r value"),
        (["-m", "jabe"], 1, "mail option 'j' can not be used without array job"),
        (["-p", "5000"], 2, "illegal -p value"),
        (["-a", "1"], 2, "illegal -a value"),
        (["-S", "bash"], 2, "illegal -S value"),
        (["-o", ""], 2, "illegal -o value"),
        (["-x"], 2, "invalid option -- 'x'"),
        (["--nodes=2"], 2, "invalid option -- '-'"),
        (["-N"], 2, "option requires an argument -- 'N'"),
        (["-l", "walltime=1h"], 166, f"{BAD} Resource_List.walltime"),
        (["-l", "walltime=1:2:3:4"], 166, f"{BAD} Resource_List.walltime"),
        (["-l", "gpus=4"], 187, f"{UNKNOWN} Resource_List.gpus"),
        (["-l", "gpus"], 187, f"{UNKNOWN} Resource_List.gpus"),
        (["-l", "filesystems=home flare"], 187, f"{UNKNOWN} Resource_List.flare"),
        (["-l", "select=2:gpus=4"], 187, f"{UNKNOWN}: gpus"),
        (["-l", "select=2:walltime=60"], 4, 'Resource invalid in "select" specification: walltime'),
        (["-l", "select=0"], 166, BAD),
        (["-l", "select=2:ncpus"], 166, f"{BAD} Resource_List.select"),
        (["-l", "select==2"], 166, f"{BAD} Resource_List.select"),
        (["-l", "select=1:ncpus=x"], 166, f"{BAD} select.ncpus"),
        (["-l", "select=1:mem=xx"], 166, f"{BAD} select.mem"),
        (["-l", "select=2:ncpus=1:ncpus=2"], 12, "duplicated resource within a section"),
        (["-l", "place=scatter"], 7, 'Cannot have "place" without "select"'),
        ([*SELECT, "-l", "place=scattered"], 166, f"{BAD} Resource_List.place"),
        ([*SELECT, "-l", "place=:scatter"], 166, f"{BAD} Resource_List.place"),
        ([*SELECT, "-l", "place=scatter:pack"], 166, f"{BAD} Resource_List.place"),
        ([*SELECT, "-l", "ncpus=4"], 5, '"-lresource=" cannot be used with "select" or "place", resource is: ncpus'),
        ([*SELECT, "-l", "nodes=4"], 6, "Cannot be used with select or place: nodes"),
        (["-l", "select=1 "], 2, "illegal -l value"),
        (["-l", "select=1,,walltime=300"], 2, "illegal -l value"),
        (["-l", "select=1 ,walltime=300"], 2, "illegal -l value"),
        (["-l", "select = 2 x"], 187, f"{UNKNOWN} Resource_List.x"),
        (["-W", "depends=afterok:1"], 154, "Error (15002) submitting job"),
        (["-W", "depend=whenever:1"], 2, "illegal -W value"),
        (["-W", "depend=afterok"], 2, "illegal -W value"),
        (["-W", "depend=afterok:x"], 2, "illegal -W value"),
        (["-W", "umask=x"], 2, "illegal -W value"),
        (["-W", "block=maybe"], 2, "illegal -W value"),
        (["-W", "foo"], 2, "illegal -W value"),
        (["-v", "NO_SUCH_VARIABLE"], 1, "cannot send environment with the job"),
        (["-v", ",A=1"], 1, "cannot send environment with the job"),
        (["-v", "A='open"], 1, "cannot send environment with the job"),
        (["--"], 2, "usage"),
        (["script.sh", "-N", "late"], 2, "usage"),
        (["script.sh", "--", "true"], 2, "usage"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_illegal_requests(words: list[str], code: int, message: str) -> None:
    with pytest.raises(Refused) as refusal:
        request(words).variables({})
    assert (refusal.value.code, str(refusal.value).removeprefix("qsub: ").startswith(message)) == (code, True)


def test_the_command_line_is_stronger_than_directives() -> None:
    script = "#!/bin/bash -l\n#PBS -N inside -q prod\n#PBS -l select=1,walltime=60\n\necho\n#PBS -N late\n"
    made = request(["-N", "outside", "-l", "select=2"], script)
    assert made.options == {"N": "outside", "q": "prod"}
    assert made.resources == {"select": "2", "walltime": "60"}


def test_of_directives_the_first_resource_and_the_last_option_count() -> None:
    """On the command line the last resource counts; of -W the script's counts even against the command line."""
    script = "#!/bin/sh\n#PBS -l walltime=600 -N one\n#PBS -l walltime=900 -N two -W umask=22\ntrue\n"
    made = request(["-W", "umask=77"], script)
    assert (made.resources["walltime"], made.options["N"], made.attributes["umask"]) == ("600", "two", "22")
    assert request(["-l", "walltime=600", "-l", "walltime=900"]).resources["walltime"] == "900"


def test_a_resource_without_a_value_is_not_set() -> None:
    assert request(["-l", "walltime=,filesystems"]).resources == {}


def test_another_prefix_of_directives() -> None:
    assert request(["-C", "#QSUB"], "#!/bin/sh\n#PBS -N one\n#QSUB -N two\ntrue\n").options["N"] == "two"


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
    made = request(["-v", "ONE=1,LIST='a,b',FROM_SHELL,EMPTY=,CUT=c\\,d,SLASH=\\n"])
    assert made.variables({"FROM_SHELL": "x y"}) == {
        "ONE": "1",
        "LIST": "a,b",
        "FROM_SHELL": "x y",
        "EMPTY": "",
        "CUT": "c,d",
        "SLASH": "\\\\n",
    }


def test_walltime_forms() -> None:
    seconds = {text: request(["-l", f"walltime={text}"]).walltime_seconds for text in ("90", "1:30", "1:00:00")}
    assert seconds == {"90": 90, "1:30": 90, "1:00:00": 3600}


def test_a_path_is_not_a_script(tmp_path: Path) -> None:
    made = request(["-l", "select=1", str(tmp_path)])
    assert made.operands == [str(tmp_path)]
