# SPDX-License-Identifier: Apache-2.0
"""The command as a shell sees it."""

from __future__ import annotations

from tests.ranks import BIN, clean_environment, run


def test_a_reader_that_has_seen_enough_ends_a_command_quietly() -> None:
    nobody_reads = f"{{ sleep 1; '{BIN}/hpc-dl' machines; echo left with $? >&2; }} | true"
    done = run(["bash", "-c", nobody_reads], 30, clean_environment())
    assert done.output.strip() == "left with 141"
