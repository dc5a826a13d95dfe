# SPDX-License-Identifier: Apache-2.0
"""One rank of the stand-in for PALS: put the process on its node and give it PALS's variables, no world size."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path

from standin.site import enter_node

HYDRAS_OWN = ("MPI_LOCALRANKID", "MPI_LOCALNRANKS", "PMI_HOSTNAME", "HYDI_CONTROL_FD")
PR_SET_PDEATHSIG = 1
POLL_SECONDS = 0.1


def main(*program: str) -> int:
    """Run the program as this rank; its end is reported as PALS does."""
    environ = dict(os.environ)
    node, nodes = environ["PMI_HOSTNAME"], environ.pop("STAND_IN_NODES").split(",")
    rank = environ["PMI_RANK"]
    environ |= {
        "PALS_RANKID": rank,
        "PMIX_RANK": rank,
        "PALS_LOCAL_RANKID": environ["MPI_LOCALRANKID"],
        "PALS_LOCAL_SIZE": environ["MPI_LOCALNRANKS"],
        "PALS_NODEID": str(nodes.index(node)),
    }
    hosts_file = Path(environ.pop("STAND_IN_FOLDER")) / "hosts"
    for name in HYDRAS_OWN:
        environ.pop(name, None)
    failed = Path(environ.pop("STAND_IN_FAILED"))
    fd = int(environ["PMI_FD"])
    words = [*enter_node(node, hosts_file), *program]
    child = subprocess.Popen(words, env=environ, pass_fds=(fd,), preexec_fn=_die_with_parent)
    os.close(fd)
    signal.signal(signal.SIGTERM, lambda number, frame: child.send_signal(number))
    code = _wait(child, failed)
    short = node.split(".")[0]
    if code < 0:
        print(f"{short}: rank {rank} died from signal {-code}", file=sys.stderr, flush=True)
    elif code:
        print(f"{short}: rank {rank} exited with code {code}", file=sys.stderr, flush=True)
    return 128 - code if code < 0 else code


def _wait(child: subprocess.Popen[bytes], failed: Path) -> int:
    """The child's return code; as soon as any rank fails, the others get SIGTERM."""
    while True:
        try:
            code = child.wait(timeout=POLL_SECONDS)
        except subprocess.TimeoutExpired:
            if failed.exists():
                child.terminate()
            continue
        if code:
            failed.touch()
        return code


def _die_with_parent() -> None:
    """Hydra ends a rank's processes by SIGKILL: the program must not outlive this one."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
