# SPDX-License-Identifier: Apache-2.0
"""Generative models: the bound against torch's distributions, the language model against a loop over positions."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Bernoulli, Normal, kl_divergence

from hpc_dl.errors import HpcDlError
from hpc_dl.models import gpt, vae


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


def test_the_bound_equals_that_of_torch_distributions() -> None:
    logits, mu, log_variance = torch.randn(7, 64), torch.randn(7, 2), torch.randn(7, 2)
    x = torch.randint(2, (7, 64)).double()
    reconstruction = -Bernoulli(logits=logits).log_prob(x).sum(1)
    divergence = kl_divergence(Normal(mu, (log_variance / 2).exp()), Normal(0.0, 1.0)).sum(1)
    expected = (reconstruction + divergence).mean()
    torch.testing.assert_close(vae.negative_elbo((logits, mu, log_variance), x), expected, rtol=1e-12, atol=1e-12)


def test_descriptions_are_drawn_from_their_distribution() -> None:
    model = vae.Vae(latent=3)
    model.decoder = torch.nn.Identity()  # what comes out is z
    x = torch.rand(1, 64).expand(20_000, 64)
    z, mu, log_variance = model(x)
    torch.testing.assert_close(z.mean(0), mu[0], rtol=0, atol=0.03)
    torch.testing.assert_close(z.std(0), (log_variance[0] / 2).exp(), rtol=0.03, atol=0)


def test_a_gradient_passes_through_the_random_description() -> None:
    model = vae.Vae()
    vae.negative_elbo(model(torch.rand(4, 64)), torch.rand(4, 64)).backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in model.parameters())


# Hugging Face's model cards and A. Radford et al., 2019 (whose table 2 rounds, and counts the first two too low).
PUBLISHED = {
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
}


@pytest.mark.parametrize("size", PUBLISHED)
def test_gpt_parameter_counts_are_the_published_ones(size: str) -> None:
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in gpt.Gpt(size).parameters()) == PUBLISHED[size]


def reference(model: gpt.Gpt, tokens: list[int]) -> Tensor:
    """Logits (T, vocabulary) of one text, position by position and head by head, from the formulas."""
    w = model.state_dict()

    def norm(x: Tensor, name: str) -> Tensor:
        centred = x - x.mean()
        return centred / (centred.square().mean() + 1e-5).sqrt() * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(x: Tensor, name: str) -> Tensor:
        return w[f"{name}.weight"] @ x + w[f"{name}.bias"]

    def gelu(x: Tensor) -> Tensor:
        return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))

    heads = model.layers[0].attention.heads
    xs = [w["tokens.weight"][token] + w["positions.weight"][place] for place, token in enumerate(tokens)]
    for number in range(len(model.layers)):
        name = f"layers.{number}"
        qkv = [linear(norm(x, f"{name}.norm1"), f"{name}.attention.qkv").chunk(3) for x in xs]
        added = []
        for place in range(len(xs)):
            parts = []
            for head in range(heads):
                q = qkv[place][0].chunk(heads)[head]
                past = [(k.chunk(heads)[head], v.chunk(heads)[head]) for _, k, v in qkv[: place + 1]]
                weights = torch.stack([q @ k / math.sqrt(len(q)) for k, _ in past]).softmax(0)
                parts.append(sum(weight * v for weight, (_, v) in zip(weights, past, strict=True)))
            added.append(linear(torch.cat(parts), f"{name}.attention.out"))  # type: ignore[arg-type]
        xs = [x + y for x, y in zip(xs, added, strict=True)]
        xs = [x + linear(gelu(linear(norm(x, f"{name}.norm2"), f"{name}.up")), f"{name}.down") for x in xs]
    return torch.stack([w["tokens.weight"] @ norm(x, "norm") for x in xs])


def test_gpt_equals_its_formulas() -> None:
    model = gpt.Gpt("1m", vocabulary=11, context=9).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    tokens = torch.randint(11, (2, 7))
    with torch.no_grad():
        ours = model(tokens)
    for row in range(2):
        torch.testing.assert_close(ours[row], reference(model, tokens[row].tolist()), rtol=1e-10, atol=1e-10)


def test_no_position_sees_what_comes_after_it() -> None:
    model = gpt.Gpt("1m", vocabulary=11, context=9).eval()
    tokens = torch.randint(11, (1, 8))
    changed = tokens.clone()
    changed[0, 5:] = (changed[0, 5:] + 1) % 11
    before, after = model(tokens), model(changed)
    assert torch.equal(before[:, :5], after[:, :5])
    assert not torch.allclose(before[:, 5:], after[:, 5:])


def test_loss_and_bits() -> None:
    logits, following = torch.randn(3, 5, 256), torch.randint(256, (3, 5))
    by_hand = -torch.stack([logits[i, t].log_softmax(0)[following[i, t]] for i in range(3) for t in range(5)]).mean()
    torch.testing.assert_close(gpt.next_token_loss(logits, following), by_hand)
    torch.testing.assert_close(
        gpt.bits_per_token(torch.zeros(3, 5, 256), following), torch.tensor(8.0, dtype=torch.float32)
    )


def test_generation_follows_a_model_that_is_sure() -> None:
    class Counts(gpt.Gpt):
        def forward(self, tokens: Tensor) -> Tensor:
            return 50 * F.one_hot((tokens + 1) % 11, 11).double()

    model = Counts("1m", vocabulary=11, context=4)
    assert gpt.generate(model, torch.tensor([[3]]), 9).tolist() == [[3, 4, 5, 6, 7, 8, 9, 10, 0, 1]]


def test_unknown_size_lists_the_known_ones() -> None:
    with pytest.raises(HpcDlError, match="did you mean gpt2-xl"):
        gpt.Gpt("gpt2-xxl")
