# SPDX-License-Identifier: Apache-2.0
"""Losses that average over tokens, classes or pixels: the Trainer's numbers do not depend on ranks or accumulation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from hpc_dl.data.base import Arrays, Data
from hpc_dl.data.sharding import Plan
from hpc_dl.run.checkpoint import Checkpoints
from tests.ranks import hpc_dl, run, run_ranks

pytestmark = pytest.mark.parallel

HERE = "tests.parallel.test_weighted_losses"
CLASSES, LENGTH, SAMPLES, BATCH, RATE, STEPS = 7, 5, 22, 8, 0.5, 6
WEIGHTS = torch.linspace(0.2, 3.0, CLASSES, dtype=torch.float64)


class Tagger(nn.Module):
    """Logits for each token: (n, length) -> (n, classes, length)."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(CLASSES, 6), nn.Linear(6, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.head(self.embedding(tokens)).transpose(1, 2)
        return logits


def data() -> Data:
    """Sentences of very different lengths, padded with ignored targets; most are all padding, so that some ranks and
    parts have nothing that counts."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, CLASSES, (SAMPLES, LENGTH), generator=generator)
    target = (tokens * 3 + tokens.roll(1, dims=1)) % CLASSES
    lengths = torch.randint(0, LENGTH + 1, (SAMPLES,), generator=generator)
    target[torch.arange(LENGTH) >= lengths[:, None]] = -100
    target[torch.arange(SAMPLES) % 3 > 0] = -100
    return Data(Arrays(tokens, target), Arrays(tokens[:9], target[:9]))


def weighted_classes(output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The same as torch's, by a loss that says its weight itself."""
    counts = target != -100
    each = functional.cross_entropy(output, target, weight=WEIGHTS, reduction="none")
    weight = (WEIGHTS[target.where(counts, 0)] * counts).sum()
    return each.sum() / weight, weight


class TorchsWeightedClasses(nn.CrossEntropyLoss):
    """Of a class of one's own nothing is known but what it says."""

    def __init__(self) -> None:
        super().__init__(weight=WEIGHTS)

    def forward(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return super().forward(output, target), weighted_classes(output, target)[1]


LOSSES = {
    "torch.nn.functional:cross_entropy": lambda output, target: functional.cross_entropy(output, target),
    f"{HERE}:weighted_classes": lambda output, target: functional.cross_entropy(output, target, weight=WEIGHTS),
    f"{HERE}:TorchsWeightedClasses": lambda output, target: functional.cross_entropy(output, target, weight=WEIGHTS),
}


def words(folder: Path, loss: str, *more: str) -> list[str]:
    path = folder.parent / f"{folder.name}.toml"
    path.write_text(
        f"""
        [task]
        model = "{HERE}:Tagger"
        loss = "{loss}"
        metrics = ["{loss}"]
        [data]
        source = "{HERE}:data"
        [training]
        steps = {STEPS}
        global_batch = {BATCH}
        [schedule]
        warmup_steps = 0
        [optimizer]
        learning_rate = {RATE}
        momentum = 0.0
        [device]
        name = "cpu"
        precision = "fp64"
        threads = 1
        [log]
        progress = "none"
        window_steps = 1
        warmup_steps = 0
        """
    )
    return hpc_dl("train", str(path), "--log.folder", str(folder), *more)


def by_hand(loss: str) -> tuple[dict[str, Tensor], list[float]]:
    """Plain torch on whole batches: the parameters, and the loss of every step."""
    torch.manual_seed(0)
    model, losses = Tagger().double(), []
    optimizer = torch.optim.SGD(model.parameters(), RATE)
    samples = data().train
    plan = Plan(samples=SAMPLES, world_size=1, rank=0, global_batch=BATCH, seed=0)
    for number in range(STEPS):
        tokens, target = samples.batch(plan.batch(*divmod(number, plan.steps_per_epoch))[0])
        value = LOSSES[loss](model(tokens), target)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return dict(model.state_dict()), losses


@pytest.mark.parametrize(
    ("engine", "ranks", "parts"), [("single", 1, 1), ("single", 1, 3), ("horovod", 2, 1), ("torch", 3, 2)]
)
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.rpartition(":")[2])
def test_the_trainer_weighs_what_the_loss_averages(
    loss: str, engine: str, ranks: int, parts: int, tmp_path: Path
) -> None:
    expected, losses = by_hand(loss)
    folder = tmp_path / "run"
    command = words(folder, loss, "--exchange.engine", engine, "--training.accumulation", str(parts))
    ended = run(command) if ranks == 1 else run_ranks(ranks, command)
    assert ended.code == 0, ended.output
    content = Checkpoints(folder, 1).newest()
    assert content is not None
    for key, value in expected.items():
        torch.testing.assert_close(content["states"]["model"][key], value, rtol=1e-12, atol=1e-12)
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [record["loss"] for record in records if record["kind"] == "window"] == pytest.approx(losses, rel=1e-6)
    evaluated = [record["metrics"] for record in records if record["kind"] == "evaluation"][-1]
    with torch.no_grad():
        model = Tagger().double()
        model.load_state_dict(content["states"]["model"])
        tokens, target = data().evaluation.batch(np.arange(9))
        value = LOSSES[loss](model(tokens), target).item()
    assert list(evaluated.values()) == pytest.approx([value], rel=1e-9)
