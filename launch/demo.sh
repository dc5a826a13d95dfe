#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# `make demo`: trains the CNN of the course on real handwritten digits, with 1 rank and with 2, and reports the scaling.
set -euo pipefail

engine=horovod
python -c 'import horovod.torch' 2>/dev/null || engine=torch
rm -rf runs/demo
export OMP_NUM_THREADS=1 # one thread a rank in both runs, so that the comparison is of ranks

hpc-dl train mnist_cnn --device.threads 1 --log.folder runs/demo/1-rank
mpiexec -n 2 hpc-dl train mnist_cnn --device.threads 1 --exchange.engine "$engine" --log.folder runs/demo/2-ranks
hpc-dl report runs/demo/1-rank runs/demo/2-ranks --output report
echo "The report: $PWD/report/report.html"
