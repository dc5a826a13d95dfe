# SPDX-License-Identifier: Apache-2.0
"""A small training in a framework's own way, followed: `python -m tests.frameworks.programs FRAMEWORK FOLDER STEPS`."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from hpc_dl.settings import LogSettings, Settings

SETTINGS = Settings(log=LogSettings(progress="none", window_steps=5, warmup_steps=0))
SAMPLES, BATCH = 64, 8


def network() -> nn.Module:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))


def maybe_stop(done: int, stop_at: int) -> None:
    if done == stop_at and os.environ.get("RANK", "0") == "0":
        os.kill(os.getpid(), signal.SIGUSR1)


def lightning(folder: str, steps: int, stop_at: int) -> None:
    import lightning.pytorch as pl

    from hpc_dl.frameworks.lightning import Following

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def training_step(self, batch: Any, number: int) -> Tensor:
            maybe_stop(self.global_step, stop_at)
            return self.net(batch[0]).square().mean()

        def validation_step(self, batch: Any, number: int) -> None:
            self.net(batch[0])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.01)

    data = TensorDataset(torch.randn(SAMPLES, 4))
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=int(os.environ.get("WORLD_SIZE", "1")),
        max_steps=steps,
        callbacks=[Following(folder=folder, settings=SETTINGS)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        accumulate_grad_batches=2,
        default_root_dir=folder,
    )
    trainer.fit(Module(), DataLoader(data, BATCH), DataLoader(data, BATCH))
    print(f"the framework has done {trainer.global_step} steps")


def accelerate(folder: str, steps: int, stop_at: int) -> None:
    from accelerate import Accelerator

    from hpc_dl.frameworks.accelerate import follow

    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    model = network()
    loader = DataLoader(TensorDataset(torch.randn(SAMPLES, 4)), BATCH)
    model, optimizer, loader = accelerator.prepare(model, torch.optim.SGD(model.parameters(), 0.01), loader)
    batch = 2 * BATCH * accelerator.num_processes
    with follow(
        accelerator, model, optimizer, global_batch=batch, folder=folder, steps=steps, settings=SETTINGS
    ) as run:
        while not run.over:
            for (part,) in run.batches(loader):
                maybe_stop(run.position.step, stop_at)
                with accelerator.accumulate(model):
                    loss = model(part).square().mean()
                    accelerator.backward(loss)
                    optimizer.step()
                    optimizer.zero_grad()
                    run.record(loss)
    print(f"the framework has done {run.position.step} steps")


def transformers(folder: str, steps: int, stop_at: int) -> None:
    from transformers import Trainer, TrainerCallback, TrainingArguments

    from hpc_dl.frameworks.transformers import Following

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
            answer = self.net(x)
            return {"loss": (answer - labels).square().mean(), "logits": answer}

    class Stopper(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            maybe_stop(state.global_step, stop_at)

    data = [{"x": torch.randn(4), "labels": torch.zeros(1)} for _ in range(SAMPLES)]
    options = TrainingArguments(
        output_dir=os.path.join(folder, "hf"),
        max_steps=steps,
        per_device_train_batch_size=BATCH,
        gradient_accumulation_steps=2,
        use_cpu=True,
        save_strategy="no",
        eval_strategy="steps",
        eval_steps=10,
        report_to=[],
        disable_tqdm=True,
    )
    callbacks = [Following(folder=folder, settings=SETTINGS), Stopper()]
    trainer = Trainer(Net(), options, train_dataset=data, eval_dataset=data, callbacks=callbacks)
    trainer.train()
    print(f"the framework has done {trainer.state.global_step} steps")


if __name__ == "__main__":
    framework, folder, steps, *stop_at = sys.argv[1:]
    {"lightning": lightning, "accelerate": accelerate, "transformers": transformers}[framework](
        folder, int(steps), int(stop_at[0]) if stop_at else -1
    )
