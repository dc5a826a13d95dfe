# SPDX-License-Identifier: Apache-2.0
"""Latency, bandwidth and time per reduced byte from measured collectives, with their errors.

Every formula of `collectives.py` is linear in alpha, beta and gamma, so a fit is a weighted linear one: relative
residuals (3 % is 3 % at 4 bytes and at 1 GB), parameters not below zero. Libraries change protocol with the size of a
message, so sizes are cut into pieces wherever a further piece is worth its parameters (BIC).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from hpc_dl.errors import HpcDlError
from hpc_dl.predict import library as libraries
from hpc_dl.predict.collectives import ALGORITHMS, Link

Floats = NDArray[np.float64]
UNITS = (Link(1.0, 0.0, 0.0), Link(0.0, 1.0, 0.0), Link(0.0, 0.0, 1.0))
MOST_PIECES = 3
FEWEST_SIZES = 4
"""Sizes a piece needs: two parameters and something left to judge them by."""


@dataclass(frozen=True)
class Sample:
    """One measured collective."""

    collective: str
    ranks: int
    size_bytes: float
    seconds: float
    """Median over repeats of the slowest rank."""


@dataclass(frozen=True)
class Piece:
    """Parameters that hold up to a message size."""

    up_to_bytes: float
    link: Link
    errors: Link
    """Standard error of each parameter."""
    covariance: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Fit:
    """Measured collectives as parameters."""

    library: str
    pieces: tuple[Piece, ...]
    """Rising in size; the last reaches to infinity."""
    scatter: float
    """Relative standard deviation of the measurements about the fit."""
    separate_reduction: bool
    """False where the measurements cannot tell reducing from sending: beta then holds both, gamma is 0."""
    samples: int

    def seconds(self, collective: str, p: int, size_bytes: float) -> float:
        """Time of a collective by the algorithm the library takes for it."""
        if p == 1:
            return 0.0
        formula = ALGORITHMS[libraries.algorithm(self.library, collective, p, size_bytes)]
        return float(formula(p, size_bytes, self.piece(size_bytes).link))

    def piece(self, size_bytes: float) -> Piece:
        """The parameters for a size."""
        return next(piece for piece in self.pieces if size_bytes <= piece.up_to_bytes)

    def draw(self, generator: np.random.Generator) -> Fit:
        """The fit with parameters drawn from their joint error, none below zero: one step of a parametric bootstrap."""
        return Fit(
            self.library,
            tuple(_draw(piece, generator) for piece in self.pieces),
            self.scatter,
            self.separate_reduction,
            self.samples,
        )


def fit(samples: Sequence[Sample], library: str, most_pieces: int = MOST_PIECES) -> Fit:
    """Fit alpha, beta and gamma to measured collectives.

    Args:
        samples: At one or more numbers of ranks and several sizes.
        library: Whose choice of algorithms to assume (a key of `library.LIBRARIES`).
        most_pieces: Protocol changes to look for, plus one.
    """
    rows = [sample for sample in samples if sample.ranks > 1 and sample.seconds > 0]
    sizes = sorted({sample.size_bytes for sample in rows})
    if len(sizes) < FEWEST_SIZES:
        raise HpcDlError(
            "a fit of latency and bandwidth",
            f"{len(sizes)} message sizes between two or more ranks",
            f"measure at least {FEWEST_SIZES} sizes on at least 2 ranks",
        )
    design, seconds = _design(rows, library), np.array([row.seconds for row in rows])
    which = np.array([sizes.index(row.size_bytes) for row in rows])
    separate = _separable(design / seconds[:, None])
    columns = design if separate else design[:, :2]
    cuts = min(_cuttings(len(sizes), most_pieces), key=lambda cut: _score(cut, columns, seconds, which))
    pieces, squares, freedom = [], 0.0, 0
    for first, last in itertools.pairwise((0, *cuts, len(sizes))):
        inside = (which >= first) & (which < last)
        values, covariance, residual = _solve(columns[inside], seconds[inside])
        squares, freedom = squares + residual, freedom + max(1, int(inside.sum()) - len(values))
        up_to = math.inf if last == len(sizes) else math.sqrt(sizes[last - 1] * sizes[last])
        pieces.append(_piece(up_to, values, covariance))
    return Fit(library, tuple(pieces), math.sqrt(squares / freedom), separate, len(rows))


def _design(rows: Sequence[Sample], library: str) -> Floats:
    """Column k: what one unit of parameter k costs each measured collective."""
    formulas = [ALGORITHMS[libraries.algorithm(library, row.collective, row.ranks, row.size_bytes)] for row in rows]
    return np.array(
        [
            [float(formula(row.ranks, row.size_bytes, unit)) for unit in UNITS]
            for formula, row in zip(formulas, rows, strict=True)
        ]
    )


def _separable(relative: Floats) -> bool:
    """Whether beta and gamma have different effects: allreduce alone gives them in one fixed mixture."""
    beta, gamma = relative[:, 1], relative[:, 2]
    if not gamma.any():
        return False
    cosine = float(beta @ gamma / np.sqrt((beta @ beta) * (gamma @ gamma)))
    return cosine < 0.99


def _cuttings(sizes: int, most_pieces: int) -> list[tuple[int, ...]]:
    """All ways to cut the sorted sizes into pieces with enough sizes in each."""
    return [
        cuts
        for count in range(most_pieces)
        for cuts in itertools.combinations(range(FEWEST_SIZES, sizes - FEWEST_SIZES + 1), count)
        if all(b - a >= FEWEST_SIZES for a, b in itertools.pairwise((0, *cuts, sizes)))
    ]


def _score(cuts: tuple[int, ...], columns: Floats, seconds: Floats, which: NDArray[np.int_]) -> float:
    """Bayesian information criterion; a cut may be anywhere, so it counts as three (Zhang, Siegmund 2007)."""
    edges = (0, *cuts, int(which.max()) + 1)
    squares: float = sum(
        _solve(columns[inside], seconds[inside])[2]
        for first, last in itertools.pairwise(edges)
        if (inside := (which >= first) & (which < last)).any()
    )
    parameters: int = columns.shape[1] * (len(cuts) + 1) + 3 * len(cuts)
    return len(seconds) * math.log(max(squares, 1e-12) / len(seconds)) + parameters * math.log(len(seconds))


def _solve(columns: Floats, seconds: Floats) -> tuple[Floats, Floats, float]:
    """Parameters, their covariance and the sum of squared relative residuals."""
    relative = columns / seconds[:, None]
    scale = np.linalg.norm(relative, axis=0)
    scale[scale == 0] = 1.0
    scaled, norm = optimize.nnls(relative / scale, np.ones(len(seconds)))
    squares = float(norm) ** 2
    freedom = max(1, len(seconds) - columns.shape[1])
    information = np.linalg.pinv((relative / scale).T @ (relative / scale))
    covariance = information * squares / freedom / np.outer(scale, scale)
    return scaled / scale, covariance, squares


def _piece(up_to: float, values: Floats, covariance: Floats) -> Piece:
    errors = np.sqrt(np.diag(covariance))
    numbers, spreads = ([float(x) for x in column] for column in (values, errors))
    return Piece(up_to, Link(*numbers), Link(*spreads), tuple(tuple(float(x) for x in row) for row in covariance))


def _draw(piece: Piece, generator: np.random.Generator) -> Piece:
    covariance = np.array(piece.covariance)
    link = piece.link
    values = np.array([link.latency_seconds, link.seconds_per_byte, link.reduce_seconds_per_byte][: len(covariance)])
    drawn = generator.multivariate_normal(values, covariance, method="eigh")
    return Piece(
        piece.up_to_bytes, Link(*(float(value) for value in np.maximum(drawn, 0.0))), piece.errors, piece.covariance
    )
