# SPDX-License-Identifier: Apache-2.0
"""A generator and its critic on several ranks: two models, two optimizers, two backward passes a step, with DDP.

The noise belongs to the sample and follows from its number, so that the result can be repeated on any number of ranks.
A checkpoint after every epoch, resume from it, and nothing else.

torchrun --nproc-per-node 2 examples/ports/ddp/gan.py
"""

import os
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler

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
    dist.init_process_group()
    rank, ranks = dist.get_rank(), dist.get_world_size()
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    generator = nn.Sequential(nn.Linear(NOISE, 16), nn.ReLU(), nn.Linear(16, 2)).to(device)
    critic = nn.Sequential(nn.Linear(2, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1)).to(device)
    of_generator = torch.optim.Adam(generator.parameters(), 0.01, betas=(0.5, 0.9), eps=1e-6)
    of_critic = torch.optim.Adam(critic.parameters(), 0.01, betas=(0.5, 0.9), eps=1e-6)
    parts = {"generator": generator, "critic": critic, "of_generator": of_generator, "of_critic": of_critic}
    first, checkpoint = 0, Path("runs/gan-ddp.pt")
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device)
        for name, part in parts.items():
            part.load_state_dict(state[name])
        first = state["epoch"]
    generates = DistributedDataParallel(generator)
    judges = DistributedDataParallel(critic)
    sampler = DistributedSampler(Ring(), shuffle=False)
    loader = DataLoader(Ring(), BATCH // ranks, sampler=sampler)
    for epoch in range(first, EPOCHS):
        sampler.set_epoch(epoch)
        for real, noise in loader:
            real, fake = real.to(device), generates(noise.to(device))
            of_critic.zero_grad()
            loss = judged(judges(real), True) + judged(judges(fake.detach()), False)
            loss.backward()
            of_critic.step()
            of_generator.zero_grad()
            fooled = judged(judges(fake), True)
            fooled.backward()
            of_generator.step()
        if rank == 0:
            print(f"epoch {epoch}: critic {loss:.4f}, generator {fooled:.4f}")
            state = {name: part.state_dict() for name, part in parts.items()} | {"epoch": epoch + 1}
            checkpoint.parent.mkdir(exist_ok=True)
            torch.save(state, checkpoint)
    dist.destroy_process_group()
    return nn.ModuleDict({"generator": generator, "critic": critic})


if __name__ == "__main__":
    main()
