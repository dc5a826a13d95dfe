# SPDX-License-Identifier: Apache-2.0
"""Pictures of a trained autoencoder: where held-back digits lie in the latent plane, and what it draws from there."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hpc_dl.data import digits
from hpc_dl.models.vae import Vae

FILE = "vae.png"
SIDE = 8  # pixels


class Ranks(Protocol):
    """What is needed of a session."""

    @property
    def rank(self) -> int: ...


def draw(model: Vae, session: Ranks, run_folder: Path) -> None:
    """Write vae.png: the latent plane, the decoder's answer all over it, and samples."""
    if session.rank != 0:
        return
    model = model.cpu().float().eval()
    figure = picture(model)
    figure.savefig(run_folder / FILE, dpi=120)
    print(f"picture: {run_folder / FILE}", flush=True)


@torch.no_grad()
def picture(model: Vae) -> Figure:
    """Three panels; with more than two latent numbers the first two are shown, the others are 0."""
    figure = Figure(figsize=(13, 4.4), layout="constrained")
    plane, grid, samples = figure.subplots(1, 3)
    held_back = digits.load(form="flat").evaluation
    images, classes = held_back.batch(np.arange(len(held_back)))
    mu = model.encode(images)[0].numpy()
    points = plane.scatter(mu[:, 0], mu[:, 1], c=classes.numpy(), cmap="tab10", s=14, vmin=-0.5, vmax=9.5)
    figure.colorbar(points, ax=plane, ticks=list(range(10)), label="digit (never shown to the model)")
    plane.set(title="held-back digits in the latent plane", xlabel="z1", ylabel="z2")
    steps = torch.linspace(-2, 2, 15)
    z = torch.zeros(len(steps) ** 2, model.latent)
    z[:, 0], z[:, 1] = steps.repeat(len(steps)), steps.flip(0).repeat_interleave(len(steps))
    _tiles(grid, model.decode(z), len(steps), "decoded on a grid, z1 and z2 from -2 to 2")
    generator = torch.Generator().manual_seed(0)
    random = model.decode(torch.randn(64, model.latent, generator=generator))
    _tiles(samples, random, 8, "drawn at random")
    return figure


def _tiles(axes: Axes, images: torch.Tensor, columns: int, title: str) -> None:
    rows = len(images) // columns
    framed = F.pad(images.reshape(-1, SIDE, SIDE), (1, 1, 1, 1))
    side = SIDE + 2
    tiles = framed.reshape(rows, columns, side, side).permute(0, 2, 1, 3).reshape(rows * side, columns * side)
    axes.imshow(tiles.numpy(), cmap="gray_r", vmin=0, vmax=1)
    axes.set(title=title, xticks=[], yticks=[])
