# SPDX-License-Identifier: Apache-2.0
"""A generator and its critic on several ranks: two models, two optimizers, two backward passes a step.

The noise belongs to the sample and follows from its number, so that the result can be repeated on any number of ranks.

With Accelerate: a checkpoint after every epoch, and resume from it. On GPUs without the variable.

ACCELERATE_USE_CPU=true torchrun --nproc-per-node 2 examples/ports/with_accelerate/gan.py
"""

from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

EPOCHS, BATCH, NOISE = 3, 32, 4


class Ring(Dataset):
    """Points near a circle, each with the noise that a fake is made of."""

    def __len__(self) -> int:
        return 256

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        random = torch.Generator().manual_seed(number)
        angle = 2 * torch.pi * torch.rand(1, generator=random)
        real = torch.cat([angle.cos(), angle.sin()]) + 0.05 * torch.randn(2, generator=random)
        return real, torch.randn(NOISE, generator=random)


def judged(logits: Tensor, real: bool) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(real)))


def main() -> nn.Module:
    torch.manual_seed(0)
    accelerator = Accelerator(dataloader_config=DataLoaderConfiguration(split_batches=True))
    generator = nn.Sequential(nn.Linear(NOISE, 16), nn.ReLU(), nn.Linear(16, 2))
    critic = nn.Sequential(nn.Linear(2, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))
    of_generator = torch.optim.Adam(generator.parameters(), 0.01, betas=(0.5, 0.9), eps=1e-6)
    of_critic = torch.optim.Adam(critic.parameters(), 0.01, betas=(0.5, 0.9), eps=1e-6)
    loader = DataLoader(Ring(), BATCH)
    prepared = accelerator.prepare(generator, critic, of_generator, of_critic, loader)
    generator, critic, of_generator, of_critic, loader = prepared
    folder = Path("runs/gan-accelerate")
    done = sorted(folder.glob("epoch-*"))
    if done:
        accelerator.load_state(str(done[-1]))
    for epoch in range(len(done), EPOCHS):
        for real, noise in loader:
            fake = generator(noise)
            of_critic.zero_grad()
            loss = judged(critic(real), True) + judged(critic(fake.detach()), False)
            accelerator.backward(loss)
            of_critic.step()
            of_generator.zero_grad()
            fooled = judged(critic(fake), True)
            accelerator.backward(fooled)
            of_generator.step()
        accelerator.print(f"epoch {epoch}: critic {loss:.4f}, generator {fooled:.4f}")
        accelerator.save_state(str(folder / f"epoch-{epoch:03}"))
    accelerator.end_training()
    return nn.ModuleDict({"generator": generator, "critic": critic})


if __name__ == "__main__":
    main()
