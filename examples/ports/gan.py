# SPDX-License-Identifier: Apache-2.0
"""A generator and its critic on any number of ranks: two models, two optimizers, two backward passes a step.

The noise belongs to the sample and follows from its number, so that the result can be repeated on any number of ranks.

python examples/ports/gan.py
mpiexec -n 2 python examples/ports/gan.py
"""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

import hpc_dl

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


def main(session: hpc_dl.Session) -> nn.Module:
    torch.manual_seed(0)
    device = session.device.torch_device
    generator = nn.Sequential(nn.Linear(NOISE, 16), nn.ReLU(), nn.Linear(16, 2)).to(device)
    critic = nn.Sequential(nn.Linear(2, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1)).to(device)
    of_generator = torch.optim.Adam(generator.parameters(), 0.01, betas=(0.5, 0.9), eps=1e-6)
    of_critic = torch.optim.Adam(critic.parameters(), 0.01, betas=(0.5, 0.9), eps=1e-6)
    session.distribute(generator, of_generator)
    session.distribute(critic, of_critic)
    loader = session.loader(Ring(), global_batch=BATCH, shuffle=False)
    state = {"generator": generator, "critic": critic, "of_generator": of_generator, "of_critic": of_critic}
    folder = f"runs/gan-{session.world_size}"
    with hpc_dl.Run(session, state, global_batch=BATCH, epochs=EPOCHS, folder=folder) as run:
        for _ in run.epochs():
            for real, noise in run.steps(loader):
                fake = generator(noise)
                of_critic.zero_grad()
                loss = judged(critic(real), True) + judged(critic(fake.detach()), False)
                loss.backward()
                of_critic.step()
                of_generator.zero_grad()
                fooled = judged(critic(fake), True)
                fooled.backward()
                of_generator.step()
                run.record(loss, generator=fooled)
    return nn.ModuleDict({"generator": generator, "critic": critic})


if __name__ == "__main__":
    with hpc_dl.start() as session:
        main(session)
