# SPDX-License-Identifier: Apache-2.0
"""The paper arithmetic against models that were built, and against what was published."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from hpc_dl.models import gpt, gpt_on_paper
from hpc_dl.models.gpt_on_paper import ADAM, MACHINES, SIZES, TRAINING_BYTES

BY_NAME = {size.name: size for size in SIZES}


@pytest.mark.parametrize(
    ("on_paper", "built"), [("GPT-2 small", "gpt2"), ("GPT-2 medium", "gpt2-medium"), ("GPT-2 XL", "gpt2-xl")]
)
def test_parameters_on_paper_are_those_of_the_model(on_paper: str, built: str) -> None:
    with torch.device("meta"):
        model = gpt.Gpt(built)
    assert BY_NAME[on_paper].parameters == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(("name", "billions"), [("Megatron-LM", 8.3), ("Turing-NLG", 17.2), ("GPT-3", 174.6)])
def test_parameters_agree_with_what_was_published(name: str, billions: float) -> None:
    assert BY_NAME[name].parameters == pytest.approx(billions * 1e9, rel=0.005)


def test_training_flops_agree_with_gpt3s_paper() -> None:
    """Brown et al., 2020, table D.1: 3.14e23 for 300 billion tokens, attention not counted (it adds 3 %)."""
    assert BY_NAME["GPT-3"].flops_per_token * 300e9 == pytest.approx(3.14e23, rel=0.04)


def test_flops_per_token_are_those_torch_counts() -> None:
    model = gpt.Gpt("1m", vocabulary=256, context=64)
    tokens = torch.randint(256, (2, 64))
    # The fast attention of CPUs is not counted, the one of plain matrix products is.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        gpt.next_token_loss(model(tokens), tokens).backward()
    layers, heads, width = gpt.SIZES["1m"]
    size = gpt_on_paper.Size("1m", 2019, layers, heads, width, 256, 64, "")
    # On paper positions, biases and norms count as matrix products though they are none.
    assert counter.get_total_flops() / tokens.numel() == pytest.approx(size.flops_per_token, rel=0.03)


def test_memory_of_adam_is_that_of_a_model_trained_with_it() -> None:
    model = gpt.Gpt("1m", vocabulary=256, context=64)
    optimizer = torch.optim.AdamW(model.parameters())
    tokens = torch.randint(256, (1, 64))
    gpt.next_token_loss(model(tokens), tokens).backward()
    optimizer.step()
    tensors = [*model.parameters(), *(p.grad for p in model.parameters())]
    tensors += [value for state in optimizer.state.values() for value in state.values() if value.dim()]
    held = sum(tensor.numel() * tensor.element_size() for tensor in tensors if tensor is not None)
    assert held == sum(p.numel() for p in model.parameters()) * TRAINING_BYTES[ADAM]


def test_data_parallelism_ends_between_gpt2_xl_and_megatron() -> None:
    for machine in MACHINES:
        verdicts = [gpt_on_paper.fits(size, machine) for size in SIZES]
        assert verdicts == [True] * 4 + [False] * 3


def test_the_table_has_a_row_for_every_model() -> None:
    text = gpt_on_paper.table()
    for size in SIZES:
        assert text.count(f"| {size.name} |") == 3
    assert "174,604,259,328" in text
