# SPDX-License-Identifier: Apache-2.0
"""A variational autoencoder: learns without labels to describe images by a few numbers and to draw new ones from them.

An encoder gives, for an image x, a normal distribution q(z|x) = N(mu, sigma^2) of its description z; a decoder gives,
for a z, the probability p of ink in each pixel. Trained together they minimise the negative evidence lower bound

    J = E_q[-log p(x|z)] + KL(q(z|x) || N(0, 1))      reconstruction + how far descriptions stray from a unit normal
    KL = -1/2 sum (1 + log sigma^2 - mu^2 - sigma^2)

z = mu + sigma * epsilon with epsilon ~ N(0, 1), so that derivatives pass through mu and sigma.
D. Kingma and M. Welling, Auto-encoding variational Bayes, 2013, equations 10, 7 and appendix B.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Output = tuple[Tensor, Tensor, Tensor]


class Vae(nn.Module):
    """Encoder and decoder with one hidden layer each.

    Args:
        pixels: Pixels of an image, each between 0 and 1.
        hidden: Width of the hidden layers.
        latent: Numbers that describe an image; 2 can be drawn as a plane.
    """

    def __init__(self, pixels: int = 64, hidden: int = 256, latent: int = 2) -> None:
        super().__init__()
        self.latent = latent
        self.encoder = nn.Sequential(nn.Linear(pixels, hidden), nn.ReLU(), nn.Linear(hidden, 2 * latent))
        self.decoder = nn.Sequential(nn.Linear(latent, hidden), nn.ReLU(), nn.Linear(hidden, pixels))

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (m, pixels) to mu and log sigma^2, (m, latent) each."""
        mu, log_variance = self.encoder(x).chunk(2, dim=1)
        return mu, log_variance

    def decode(self, z: Tensor) -> Tensor:
        """z (m, latent) to the probability of ink (m, pixels)."""
        return torch.sigmoid(self.decoder(z))

    def forward(self, x: Tensor) -> Output:
        """x (m, pixels) to the logits of ink (m, pixels) at a random z, mu and log sigma^2 (m, latent)."""
        mu, log_variance = self.encode(x)
        z = mu + torch.exp(log_variance / 2) * torch.randn_like(mu)
        return self.decoder(z), mu, log_variance


def negative_elbo(output: Output, x: Tensor) -> Tensor:
    """J in nats per image, the mean over m images; x (m, pixels), grey values taken as probabilities of ink."""
    logits, mu, log_variance = output
    reconstruction = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
    divergence = -0.5 * (1 + log_variance - mu.square() - log_variance.exp()).sum()
    return (reconstruction + divergence) / len(x)
