# SPDX-License-Identifier: Apache-2.0
"""What follows training: the closed form on many ranks, pictures of the autoencoder, text from a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hpc_dl.after import gpt, ols, vae
from hpc_dl.comm.single import SingleEngine
from hpc_dl.data import tables
from hpc_dl.models.gpt import Gpt
from hpc_dl.models.ols import with_ones
from hpc_dl.models.vae import Vae
from tests.ranks import hpc_dl, run, run_ranks


def training_table() -> tuple[torch.Tensor, torch.Tensor]:
    train = tables.diabetes(dtype="float64").train
    X, y = train.batch(np.arange(len(train)))
    return with_ones(X), y


def test_closed_form_is_numpys_least_squares() -> None:
    X, y = training_table()
    theta = ols.closed_form(X, y, SingleEngine())
    expected = np.linalg.lstsq(X.numpy(), y.numpy(), rcond=None)[0]
    np.testing.assert_allclose(theta.numpy(), expected, rtol=0, atol=1e-12)


def test_closed_form_of_ill_conditioned_columns_warns_and_is_stable() -> None:
    X, _ = training_table()
    X = torch.cat([X, X[:, :1] + 1e-7 * X[:, 1:2] * X[:, 2:3]], dim=1)
    theta = torch.linspace(-1, 1, X.shape[1], dtype=torch.float64)[:, None]
    with pytest.warns(UserWarning, match="ill-conditioned"):
        found = ols.closed_form(X, X @ theta, SingleEngine())
    assert (found - theta).abs().max() < 1e-6


@pytest.mark.parallel
@pytest.mark.slow
def test_any_number_of_ranks_gives_the_same_weights(tmp_path: Path) -> None:
    found = {}
    for ranks in (1, 2, 4):
        words = ("train", "ols", "--training.steps", "100", "--log.folder", str(tmp_path / f"{ranks}"))
        ended = run_ranks(ranks, hpc_dl(*words))
        assert ended.code == 0, ended.output
        found[ranks] = json.loads((tmp_path / f"{ranks}" / ols.FILE).read_text())
    for ranks in (2, 4):
        for form in ("closed_form", "gradient_descent"):
            np.testing.assert_allclose(found[ranks][form], found[1][form], rtol=0, atol=1e-10)


@pytest.mark.slow
def test_gradient_descent_reaches_the_closed_form(tmp_path: Path) -> None:
    ended = run(
        hpc_dl("train", "ols", "--log.folder", str(tmp_path / "run"), "--log.progress", "none", "--device.threads", "1")
    )
    assert ended.code == 0, ended.output
    found = json.loads((tmp_path / "run" / ols.FILE).read_text())
    assert found["largest_difference"] < 1e-6
    X, y = training_table()
    expected = np.linalg.lstsq(X.numpy(), y.numpy(), rcond=None)[0].flatten()
    np.testing.assert_allclose(found["gradient_descent"], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("latent", [2, 5])
def test_the_autoencoders_picture_has_its_three_panels(latent: int, tmp_path: Path) -> None:
    model = Vae(latent=latent)
    figure = vae.picture(model)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:3] == [
        "held-back digits in the latent plane",
        "decoded on a grid, z1 and z2 from -2 to 2",
        "drawn at random",
    ]
    vae.draw(model, SimpleNamespace(rank=1), tmp_path)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
    vae.draw(model, SimpleNamespace(rank=0), tmp_path)  # type: ignore[arg-type]
    assert (tmp_path / vae.FILE).read_bytes().startswith(b"\x89PNG")


def test_a_sample_continues_its_prompt_the_same_way_for_the_same_seed() -> None:
    torch.manual_seed(0)
    model = Gpt("1m", vocabulary=256, context=32)
    first, second = (gpt.sample(model, "import ", 40, 1.0, seed) for seed in (1, 1))
    assert first == second != gpt.sample(model, "import ", 40, 1.0, 2)
    assert first.startswith("import ")


@pytest.mark.slow
def test_text_from_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    words = ("train", "gpt", "--training.steps", "3", "--training.global_batch", "4", "--log.folder", str(folder))
    ended = run(
        hpc_dl(*words, "--data.options", '{"length": 128, "evaluation_windows": 4}', "--device.threads", "1"), 300
    )
    assert ended.code == 0, ended.output
    assert (folder / gpt.FILE).read_text(encoding="utf-8").startswith("def ")
    assert gpt.main([str(folder), "class ", "--bytes", "20"]) == 0
    assert capsys.readouterr().out.startswith("class ")
    (folder / "checkpoints").rename(folder / "elsewhere")
    assert gpt.main([str(folder)]) == 2
    assert "--checkpoint.at_end true" in capsys.readouterr().err
    assert gpt.main([str(tmp_path / "none")]) == 2
    assert "no such file" in capsys.readouterr().err
