#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# `make demo`: trains the CNN of the course on real handwritten digits, with 1 rank and with 2, and reports the scaling.
# Ranks talk by Horovod where it could be built, otherwise by torch.distributed; each run says which and why.
set -euo pipefail

export OMP_NUM_THREADS=1 # one thread a rank in both runs, so that ranks are compared and not threads
train=(hpc-dl train mnist_cnn --device.name cpu --device.threads 1 --training.epochs 6)

rm -rf runs/demo
"${train[@]}" --log.folder runs/demo/1-rank
mpiexec -n 2 "${train[@]}" --log.folder runs/demo/2-ranks
hpc-dl report runs/demo/1-rank runs/demo/2-ranks --output report

echo
[ ! -s .venv/without-horovod ] || cat .venv/without-horovod
cat <<'END'
Read the report:        report/report.html (a browser) or report/report.md
Enter the environment:  source .venv/bin/activate
Go on:                  hpc-dl recipes; mpiexec -n 2 hpc-dl train mlp; your own model and loop: docs/train.md
END
