# SPDX-License-Identifier: Apache-2.0
"""Whatever text a user gives reaches bash as that text, and no line of a script begins with it."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpc_dl.errors import HpcDlError
from hpc_dl.jobs.words import Variable, array, command, quote

NASTY = [
    *(
        "$(touch /tmp/hpc_dl_was_here)",
        "`id`",
        "a;b",
        "a\n#PBS -q evil",
        "a\n#SBATCH -A evil",
        "a'$(id)'b",
        "&& reboot",
    ),
    *(
        "'",
        '"',
        "\\",
        "\\n",
        "",
        " ",
        "-n",
        "*",
        "~",
        "!",
        "#",
        "$HOME",
        "a\tb",
        "\x7f",
        "{a,b}",
        "\u00e9\u2028x",
        "\r\n",
        "x=1",
    ),
]
texts = st.one_of(
    st.sampled_from(NASTY), st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)
)


def bash(script: str) -> list[str]:
    done = subprocess.run(["bash", "-c", script], capture_output=True, timeout=20, check=True)
    return done.stdout.decode().split("\0")[:-1]


@settings(max_examples=120, deadline=None)
@given(st.lists(texts, min_size=1, max_size=20))
def test_bash_reads_back_every_word(words: list[str]) -> None:
    assert bash(f"printf '%s\\0' {' '.join(map(quote, words))}") == words
    assert bash(f"{array('x', words)}\nprintf '%s\\0' \"${{x[@]}}\"") == words
    assert bash(command(["printf", "%s\\0", *words], width=40)) == words
    assert bash(command(["printf", "%s\\0", *words], program=len(words), width=40)) == words


@settings(max_examples=200, deadline=None)
@given(texts)
def test_a_quoted_word_is_one_line(word: str) -> None:
    assert not set(quote(word)) & {"\n", "\r"}


def test_variables_are_expanded_and_stay_one_word() -> None:
    script = "nodes='a  b'; train=(x 'y z'); launch='/p q'\nprintf '%s\\0' "
    words = [Variable("nodes"), Variable("train[@]"), Variable("train[@]:1"), Variable("launch/job.sh")]
    assert bash(script + " ".join(map(quote, words))) == ["a  b", "x", "y z", "y z", "/p q/job.sh"]


@pytest.mark.parametrize("name", ["a b", "$(id)", "x;y", "", "1a", "a/../$(id)", "train[$(id)]"])
def test_only_variables_are_variables(name: str) -> None:
    with pytest.raises(ValueError, match="no shell variable"):
        Variable(name)


def test_a_zero_byte_is_refused() -> None:
    with pytest.raises(HpcDlError, match="zero byte"):
        quote("a\0b")


def test_an_option_stays_with_its_value() -> None:
    text = command(["run", "--one", "1", "--flag", "--two", "2", "prog", "--x"], program=2, width=12)
    assert text.split(" \\\n    ") == ["run --one 1", "--flag", "--two 2", "prog --x"]
