# SPDX-License-Identifier: Apache-2.0
"""A decoder-only language model, GPT-2's architecture: predicts the next token from those before it.

    x = x + attention(norm(x))          attention = softmax(Q K^T / sqrt(d), past only) V, in h heads of d = width / h
    x = x + mlp(norm(x))                mlp: width -> 4 width -> width with GELU

A. Radford et al., Language models are unsupervised multitask learners, 2019 (sizes, normalisation before each part);
weights are initialised as in its code and section 2.3. The token embedding is also the output layer.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hpc_dl.errors import HpcDlError, nearest

# name: (layers, heads, width)
SIZES: dict[str, tuple[int, int, int]] = {
    "1m": (5, 4, 128),
    "10m": (6, 6, 384),
    "gpt2": (12, 12, 768),
    "gpt2-medium": (24, 16, 1024),
    "gpt2-large": (36, 20, 1280),
    "gpt2-xl": (48, 25, 1600),
}


class Attention(nn.Module):
    """Every position looks at itself and the positions before it."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(m, T, width) to the same."""
        m, T, width = x.shape
        q, k, v = self.qkv(x).view(m, T, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)  # (m, h, T, d) each
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)  # (m, h, T, d)
        return self.out(y.transpose(1, 2).reshape(m, T, width))


class Layer(nn.Module):
    """Attention, then a small network at every position."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads, dropout)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(m, T, width) to the same."""
        x = x + self.drop(self.attention(self.norm1(x)))
        return x + self.drop(self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh")))


class Gpt(nn.Module):
    """Logits of the next token at every position; train it with `next_token_loss`.

    Args:
        size: A name of `SIZES`.
        vocabulary: Number of different tokens; 256 for bytes, GPT-2's own has 50,257.
        context: Largest number of tokens T it can look at.
        dropout: Probability that an activation is set to zero while training.
    """

    def __init__(self, size: str = "gpt2", vocabulary: int = 50_257, context: int = 1024, dropout: float = 0.0) -> None:
        super().__init__()
        if size not in SIZES:
            raise HpcDlError(f"Gpt of size {size!r}", "no such size", nearest(size, SIZES))
        layers, heads, width = SIZES[size]
        self.context = context
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(context, width)
        self.drop = nn.Dropout(dropout)
        self.layers = nn.ModuleList(Layer(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                # What is added to x by 2 * layers parts must not make it grow with depth.
                onto_x = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * layers) if onto_x else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (m, T) to logits (m, T, vocabulary)."""
        T = tokens.shape[1]
        x = self.drop(self.tokens(tokens) + self.positions.weight[:T])  # (m, T, width)
        for layer in self.layers:
            x = layer(x)
        return F.linear(self.norm(x), self.tokens.weight)  # (m, T, vocabulary)


def next_token_loss(logits: Tensor, following: Tensor) -> Tensor:
    """Mean cross-entropy in nats per token; logits (m, T, vocabulary), following (m, T): the tokens that came next."""
    return F.cross_entropy(logits.flatten(0, 1), following.flatten())


def bits_per_token(logits: Tensor, following: Tensor) -> Tensor:
    """The same in bits: for a model of bytes, how well it would compress the text (8 without knowing anything)."""
    return next_token_loss(logits.float(), following) / math.log(2)


@torch.no_grad()
def generate(model: Gpt, tokens: Tensor, count: int, temperature: float = 1.0) -> Tensor:
    """Tokens (m, T) continued by `count` tokens drawn one after the other; temperature below 1 plays safe."""
    for _ in range(count):
        logits = model(tokens[:, -model.context :])[:, -1] / temperature  # (m, vocabulary)
        following = torch.multinomial(logits.softmax(-1), 1)  # (m, 1)
        tokens = torch.cat([tokens, following], dim=1)
    return tokens
