# SPDX-License-Identifier: Apache-2.0
"""Runs on every rank in place of a training, in a fraction of its time: tells what the job gave the rank, or fails."""

from __future__ import annotations

import json
import os
import sys
import time

from hpc_dl.cluster.machines import find
from hpc_dl.cluster.rank import detect_rank


def main() -> None:
    record = detect_rank(os.environ)
    words = sys.argv[1:]
    if words[:1] == ["fail"]:
        if record.rank == int(words[1]):
            print(f"hpc-dl: rank {record.rank} failed: disk gone", file=sys.stderr, flush=True)
            raise SystemExit(7)
        time.sleep(600)  # as if in a collective
    time.sleep(float(os.environ.get("STAND_IN_SECONDS", "0")))
    told = {
        "rank": record.rank,
        "world_size": record.world_size,
        "local_rank": record.local_rank,
        "node": os.environ.get("SLURMD_NODENAME"),
        "device": find(os.environ).device_index(record.local_rank),
        "words": words,
        "environ": dict(os.environ),
    }
    with open(os.path.join(os.environ["STAND_IN_FOLDER"], f"rank{record.rank}.json"), "w", encoding="utf-8") as file:
        json.dump(told, file)
    if record.rank == 0:  # what there would be to report
        os.makedirs(os.environ["HPC_DL_RUN_FOLDER"], exist_ok=True)
        with open(os.path.join(os.environ["HPC_DL_RUN_FOLDER"], "log.jsonl"), "a", encoding="utf-8"):
            pass


main()
