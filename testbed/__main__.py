# SPDX-License-Identifier: Apache-2.0
"""`python -m testbed`: a cluster of network namespaces up, a command on it, and down."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from hpc_dl.environment import environment
from hpc_dl.errors import HpcDlError
from testbed import launch, network

EXAMPLE = """examples (as root):
  python -m testbed --hosts 4 --rate 200mbit up
  python -m testbed --hosts 4 run hpc-dl bench --engine horovod
  python -m testbed --hosts 4 down
  python -m testbed --hosts 4 --rate 1gbit once hpc-dl train mnist     up, run and down in one"""


def main(words: Sequence[str]) -> int:
    """Do one verb; the exit code is that of the command that ran."""
    parser = argparse.ArgumentParser(
        "python -m testbed", description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--name", default="bed", help="prefix of the namespaces (default: %(default)s)")
    parser.add_argument("--hosts", type=int, default=4, help="number of hosts (default: %(default)s)")
    parser.add_argument("--rate", default="", help="of each link and direction, as tc writes it: 200mbit, 1gbit")
    parser.add_argument("--ranks-per-host", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=600, help="seconds after which a command is ended")
    parser.add_argument("verb", choices=("up", "run", "once", "rate", "down"))
    parser.add_argument("command", nargs=argparse.REMAINDER, help="what run and once start on every host")
    asked = parser.parse_args(words)
    bed = network.Bed(asked.name, asked.hosts)
    if asked.verb in ("up", "once"):
        network.up(bed, asked.rate)
    if asked.verb == "rate":
        network.limit(bed, asked.rate)
    code = 0
    try:
        if asked.verb in ("run", "once"):
            done = launch.run(bed, asked.hosts, asked.command, environment(), asked.timeout, asked.ranks_per_host)
            print(done.stdout, end="")
            code = done.returncode
    finally:
        if asked.verb in ("once", "down"):
            network.down(bed)
    return code


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except HpcDlError as error:
        print(f"testbed: {error}", file=sys.stderr)
        sys.exit(2)
