# SPDX-License-Identifier: Apache-2.0
"""Least squares in one step on many ranks, to compare the weights found by gradient descent with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from hpc_dl.comm.base import Engine
from hpc_dl.data import tables
from hpc_dl.data.sharding import share
from hpc_dl.models import ols

FILE = "closed_form.json"


class Ranks(Protocol):
    """What is needed of a session."""

    @property
    def engine(self) -> Engine: ...


def closed_form(X: Tensor, y: Tensor, engine: Engine) -> Tensor:
    """theta (n, 1) for the samples of all ranks; each rank gives its own X (m, n) and y (m, 1).

    One allreduce of n * (n + 1) numbers, whatever the number of samples or ranks. Where X^T X is ill-conditioned (a
    warning says so), rank 0 solves the problem again from every rank's QR triangle, n + 1 rows each.
    """
    sums = engine.reduce(ols.moments(X, y), "sum", "ols.moments")
    theta = ols.solve_moments(sums)
    if ols.is_ill_conditioned(sums):
        triangles = engine.gather(ols.triangle(X, y).cpu())
        theta = engine.broadcast(ols.solve_triangles(triangles) if triangles is not None else None)
    return theta.to(X)


def compare_with_closed_form(model: ols.LinearRegression, session: Ranks, run_folder: Path) -> None:
    """Print, and write to closed_form.json, how far gradient descent is from the closed form."""
    engine, data = session.engine, tables.diabetes(dtype="float64")
    start, stop = share(len(data.train), engine.world_size, engine.rank)
    X, y = (part.to(model.w) for part in data.train.batch(torch.arange(start, stop).numpy()))
    theta = closed_form(ols.with_ones(X), y, engine)
    if engine.rank != 0:
        return
    difference = float((model.theta - theta).abs().max())
    found = {
        "largest_difference": difference,
        "closed_form": theta.flatten().tolist(),
        "gradient_descent": model.theta.flatten().tolist(),
    }
    (run_folder / FILE).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"closed form and gradient descent differ by at most {difference:.1e} in any weight", flush=True)
