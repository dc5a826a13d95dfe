# SPDX-License-Identifier: Apache-2.0
"""The environment of a machine's jobs as a shell file: groups by number of nodes, the user's own values first."""

from __future__ import annotations

import textwrap

from hpc_dl.cluster.machine import EnvironmentGroup, Machine
from hpc_dl.jobs.words import quote


def render(machine: Machine) -> str:
    """A file to be sourced in a job after launch/job.sh, where `nodes` is counted. Larger groups come first and win."""
    header = (
        f"Environment of jobs on {machine.title or machine.name}. Written by `hpc-dl job environment --machine "
        f"{machine.name}` from the machine's record: change it there. A variable that is set already stays as it is."
    )
    lines = [
        "# shellcheck shell=bash disable=SC2154  # nodes is set by the script that sources this",
        *_comment(header),
    ]
    groups = sorted(machine.environment, key=lambda group: -group.min_nodes)
    for group in groups:
        lines += ["", *_group(group)]
    return "\n".join(lines) + "\n"


def _group(group: EnvironmentGroup) -> list[str]:
    title = f"{group.name}: {group.note}" if group.note else group.name
    lines = _comment(f"{title}. Source: {group.source} ({group.date}).")
    body = [f"unset {name}" for name in group.unset]
    body += [f"default {name} {quote(value)}" for name, value in group.variables.items()]
    body += [f"export {name}={quote(value)}" for name, value in group.overrides.items()]
    folders = ":".join(group.library_folders)
    if folders:
        body.append(f"export LD_LIBRARY_PATH={quote(folders)}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}")
    conditions = [f"(( nodes >= {group.min_nodes} ))"] if group.min_nodes > 1 else []
    conditions += [f"[[ ${{HPC_DL_PROFILE:-}} == {quote(group.profile)} ]]"] if group.profile else []
    conditions += [f"[[ -d {quote(group.library_folders[0])} ]]"] if folders else []
    if not conditions:
        return lines + body
    return [*lines, f"if {' && '.join(conditions)}; then", *(f"    {line}" for line in body), "fi"]


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, 118, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
