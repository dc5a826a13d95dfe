# SPDX-License-Identifier: Apache-2.0
"""A language model on several ranks: padded sentences in dictionaries, a mean over tokens.

With Accelerate: a checkpoint after every epoch, and resume from it. On GPUs without the variable.

ACCELERATE_USE_CPU=true torchrun --nproc-per-node 2 examples/ports/with_accelerate/language_model.py
"""

from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

EPOCHS, BATCH, WORDS = 3, 32, 13


class Sentences(Dataset):
    """Arithmetic progressions modulo the number of words."""

    def __len__(self) -> int:
        return 250

    def __getitem__(self, number: int) -> Tensor:
        return (number + (1 + number % 5) * torch.arange(4 + number % 7)) % WORDS


def padded(sentences: list[Tensor]) -> dict[str, Tensor]:
    lengths = torch.tensor([len(sentence) for sentence in sentences])
    ids = pad_sequence(sentences, batch_first=True)
    return {"input_ids": ids, "attention_mask": (torch.arange(ids.shape[1]) < lengths[:, None]).long()}


class LanguageModel(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.embedding, self.places = nn.Embedding(WORDS, width), nn.Embedding(16, width)
        self.block = nn.TransformerEncoderLayer(width, 2, 32, dropout=0.0, batch_first=True)
        self.head = nn.Linear(width, WORDS)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        hidden = self.embedding(input_ids) + self.places(places)
        hidden = self.block(hidden, places[:, None] < places, attention_mask == 0)
        return self.head(hidden)


def objective(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)[:, 1:]
    logits = model(**batch)[:, :-1]
    return functional.cross_entropy(logits.transpose(1, 2), labels), (labels != -100).sum()


def main() -> nn.Module:
    torch.manual_seed(0)
    accelerator = Accelerator(dataloader_config=DataLoaderConfiguration(split_batches=True))
    model = LanguageModel()
    optimizer = torch.optim.Adam(model.parameters(), 0.01, eps=1e-6)
    loader = DataLoader(Sentences(), BATCH, collate_fn=padded)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    folder = Path("runs/language_model-accelerate")
    done = sorted(folder.glob("epoch-*"))
    if done:
        accelerator.load_state(str(done[-1]))
    for epoch in range(len(done), EPOCHS):
        for batch in loader:
            loss, tokens = objective(model, batch)
            optimizer.zero_grad()
            accelerator.backward(loss * tokens * accelerator.num_processes / accelerator.reduce(tokens))
            accelerator.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
        accelerator.print(f"epoch {epoch}: loss {loss:.4f}")
        accelerator.save_state(str(folder / f"epoch-{epoch:03}"))
    accelerator.end_training()
    return accelerator.unwrap_model(model)


if __name__ == "__main__":
    main()
