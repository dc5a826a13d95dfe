# SPDX-License-Identifier: Apache-2.0
"""The "revolution of size" on paper: what language models up to GPT-3 take to train, and where data parallelism ends.

    python -m hpc_dl.models.gpt_on_paper

Arithmetic only, no torch. Every formula and figure names its source; nothing here was measured on these machines.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

GIB = 2**30


@dataclass(frozen=True)
class Size:
    """A published model."""

    name: str
    year: int
    layers: int
    heads: int
    width: int
    vocabulary: int
    context: int
    source: str

    @property
    def parameters(self) -> int:
        """Embeddings; per layer 12 width^2 + 13 width (attention 4, mlp 8; biases and norms 13); the last norm."""
        d = self.width
        return (self.vocabulary + self.context) * d + self.layers * (12 * d * d + 13 * d) + 2 * d

    @property
    def flops_per_token(self) -> int:
        """Of training: 6 per parameter (2 forward, 4 backward), and 12 * layers * width * context for attention.

        A. Chowdhery et al., PaLM, 2022, appendix B.
        """
        return 6 * self.parameters + 12 * self.layers * self.width * self.context

    @property
    def activation_bytes(self) -> int:
        """Kept for the way back, per sequence, in 16 bits, attention not stored: 34 * context * width per layer.

        V. Korthikanti et al., Reducing activation recomputation in large transformer models, 2022, equation 2 (first
        term; the second one falls away with attention computed in blocks).
        """
        return 34 * self.context * self.width * self.layers


_GPT2 = "Radford et al., 2019"
SIZES = (
    Size("GPT-2 small", 2019, 12, 12, 768, 50_257, 1024, _GPT2),
    Size("GPT-2 medium", 2019, 24, 16, 1024, 50_257, 1024, _GPT2),
    Size("GPT-2 large", 2019, 36, 20, 1280, 50_257, 1024, _GPT2),
    Size("GPT-2 XL", 2019, 48, 25, 1600, 50_257, 1024, _GPT2),
    Size("Megatron-LM", 2019, 72, 32, 3072, 51_200, 1024, "Shoeybi et al., 2019, table 1"),
    Size("Turing-NLG", 2020, 78, 28, 4256, 50_257, 1024, "Microsoft Research blog, 2020-02-10"),
    Size("GPT-3", 2020, 96, 96, 12_288, 50_257, 2048, "Brown et al., 2020, table 2.1"),
)

# Bytes per parameter that stay on a device all through training (plain data parallelism: on every device).
TRAINING_BYTES = {
    "fp32, SGD": 4 + 4,  # weights, gradients
    "fp32, SGD with momentum": 4 + 4 + 4,
    "fp32 or bf16 autocast, Adam": 4 + 4 + 4 + 4,  # and two moments: hpc_dl, but for the buckets below
    "16-bit weights, fp32 master, Adam": 2 + 2 + 4 + 4 + 4,  # S. Rajbhandari et al., ZeRO, 2020, section 3.1
}
ADAM = "fp32 or bf16 autocast, Adam"
BUCKET_BYTES = 4
"""Per parameter more for the flat buckets in which hpc_dl exchanges gradients."""


@dataclass(frozen=True)
class Accelerators:
    """A machine's devices."""

    name: str
    nodes: int
    per_node: int
    memory_bytes: int
    """Of one device, as torch reports it."""
    node_flops: float
    """bf16 matrix products of a whole node, per second."""
    network_bytes: float
    """Per second and device, each way: the node's network cards shared out."""
    source: str


MACHINES = (
    Accelerators(
        "Perlmutter",
        nodes=1792,
        per_node=4,
        memory_bytes=round(39.4 * GIB),
        node_flops=4 * 312e12,
        network_bytes=25e9,
        source="NERSC, Perlmutter architecture, 2026 (40 GB cards, 1536 of the nodes); NVIDIA A100 data sheet (peak)",
    ),
    Accelerators(
        "Aurora",
        nodes=10_624,
        per_node=12,
        memory_bytes=65_520 * 2**20,
        node_flops=2487e12,
        network_bytes=8 * 25e9 / 12,
        source="ALCF user guides, 2026 (measured matrix products of 12 tiles)",
    ),
)

EFFICIENCY = 0.4
"""Of the peak, a good value for large models (between 0.3 and 0.5 are published for A100s)."""
TOKENS = 300e9
"""GPT-3's training (Brown et al., 2020, table 2.1)."""


def fits(size: Size, machine: Accelerators) -> bool:
    """Whether plain data parallelism works: training state, buckets and one sequence on every device."""
    state = size.parameters * (TRAINING_BYTES[ADAM] + BUCKET_BYTES)
    return state + size.activation_bytes <= machine.memory_bytes


def nodes_for_memory(size: Size, machine: Accelerators) -> int:
    """Nodes over which the training state must at least be spread, were every byte free for it."""
    state = size.parameters * TRAINING_BYTES[ADAM]
    return math.ceil(state / (machine.per_node * machine.memory_bytes))


def days(size: Size, machine: Accelerators, nodes: int) -> float:
    """Days for GPT-3's 300 billion tokens on so many nodes at 40 % of the peak."""
    return size.flops_per_token * TOKENS / (nodes * machine.node_flops * EFFICIENCY) / 86_400


def tokens_to_hide_exchange(machine: Accelerators) -> float:
    """Tokens a device must work on per step so that the exchange may hide behind its work.

    A ring allreduce moves each of N gradients of 4 bytes twice over the network: 8 N / network; the work is
    6 N tokens / speed. N falls away: it is the batch per device that counts, not the size of the model. That the
    exchange overlaps with the backward pass only (two thirds of the work) adds another half.
    """
    speed = machine.node_flops / machine.per_node * EFFICIENCY
    return 1.5 * 8 / 6 * speed / machine.network_bytes


def table() -> str:
    """All of it in Markdown."""
    return "\n\n".join([_sizes(), _memory(), _machines()])


def _sizes() -> str:
    rows = [
        (s.name, s.year, s.layers, s.heads, s.width, s.context, f"{s.parameters:,}", f"{s.flops_per_token / 1e9:,.1f}")
        for s in SIZES
    ]
    return _markdown(("model", "year", "layers", "heads", "width", "context", "parameters", "GFLOP a token"), rows)


def _memory() -> str:
    rows = [
        (
            s.name,
            *(f"{s.parameters * size / 1e9:,.1f}" for size in TRAINING_BYTES.values()),
            f"{s.activation_bytes / 1e9:,.1f}",
        )
        for s in SIZES
    ]
    return _markdown(("GB to train", *TRAINING_BYTES, "+ activations of one sequence"), rows)


def _machines() -> str:
    heads = [
        f"{m.name}: {what}" for m in MACHINES for what in ("one device holds it", "nodes to hold it", "days on 100")
    ]
    rows = []
    for size in SIZES:
        cells: list[object] = [size.name]
        for machine in MACHINES:
            cells += ["yes" if fits(size, machine) else "no", nodes_for_memory(size, machine)]
            cells.append(f"{days(size, machine, 100):,.1f}")
        rows.append(tuple(cells))
    return _markdown(("Adam", *heads), rows)


def _markdown(heads: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> str:
    lines: list[tuple[object, ...]] = [heads, ("---", *("---:" for _ in heads[1:])), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


if __name__ == "__main__":
    print(table())
    for one in MACHINES:
        print(f"\n{one.name}: {tokens_to_hide_exchange(one):,.0f} tokens per device and step hide the exchange")
