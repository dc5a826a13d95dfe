# SPDX-License-Identifier: Apache-2.0
"""`hpc-dl machines [NAME]`: the machines hpc_dl knows, and what it knows about each, with sources."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

from hpc_dl.cluster import machines
from hpc_dl.cluster.describe import describe, overview


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Print the table, or one record."""
    parser = argparse.ArgumentParser(prog="hpc-dl machines", description="The machines hpc_dl knows.")
    parser.add_argument("machine", nargs="?", metavar="NAME", help="a machine, or the TOML file of your own cluster")
    options = parser.parse_args(arguments)
    if options.machine:
        print(describe(machines.load(options.machine)))
        return 0
    print(overview(map(machines.load, machines.names())))
    print(f"\nThis is: {machines.find(environ).name}. `hpc-dl machines NAME` shows a record, with sources and dates.")
    return 0
