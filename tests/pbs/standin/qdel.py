# SPDX-License-Identifier: Apache-2.0
"""qdel of the stand-in (qdel(1B))."""

from __future__ import annotations

import getopt
import sys

from standin.site import load_site

UNKNOWN_JOB = 153
"""PBSE_UNKJOBID, 15001, as the shell sees it: modulo 256."""


def main(folder: str, *words: str) -> int:
    """Mark jobs for deletion; the process that runs a job sees it."""
    site = load_site(folder)
    try:
        options, names = getopt.gnu_getopt(list(words), "W:x")
    except getopt.GetoptError as error:
        print(f"qdel: {error.msg}\nusage: qdel [-W force|suppress_email=X] [-x] job_identifier...", file=sys.stderr)
        return 2
    if not names:
        print("usage: qdel [-W force|suppress_email=X] [-x] job_identifier...", file=sys.stderr)
        return 2
    code = 0
    for name in names:
        job = site.job(name)
        if job is None:
            print(f"qdel: Unknown Job Id {site.full_name(name)}", file=sys.stderr)
            code = UNKNOWN_JOB
        elif job["state"] == "F":
            if ("-x", "") not in options:
                print(f"qdel: Job has finished {job['id']}", file=sys.stderr)
                code = 35
        elif job["state"] == "H" and "start_time" in job:
            site.change(job["sequence"], state="F", delete=True)
        else:
            site.change(job["sequence"], delete=True)
    return code
