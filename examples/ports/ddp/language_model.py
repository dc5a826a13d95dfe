# SPDX-License-Identifier: Apache-2.0
"""A language model on several ranks: padded sentences in dictionaries, a mean over tokens, with DDP.

A checkpoint after every epoch, resume from it, and nothing else.

torchrun --nproc-per-node 2 examples/ports/ddp/language_model.py
"""

import os
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler

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
    dist.init_process_group()
    rank, ranks = dist.get_rank(), dist.get_world_size()
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = LanguageModel().to(device)
    optimizer = torch.optim.Adam(model.parameters(), 0.01, eps=1e-6)
    first, checkpoint = 0, Path("runs/language_model-ddp.pt")
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["epoch"]
    together = DistributedDataParallel(model)
    sampler = DistributedSampler(Sentences(), shuffle=False)
    loader = DataLoader(Sentences(), BATCH // ranks, sampler=sampler, collate_fn=padded)
    for epoch in range(first, EPOCHS):
        sampler.set_epoch(epoch)
        for batch in loader:
            loss, tokens = objective(together, {name: part.to(device) for name, part in batch.items()})
            optimizer.zero_grad()
            everybody = tokens.clone()
            dist.all_reduce(everybody)
            (loss * tokens * ranks / everybody).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
        if rank == 0:
            print(f"epoch {epoch}: loss {loss:.4f}")
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch + 1}
            checkpoint.parent.mkdir(exist_ok=True)
            torch.save(state, checkpoint)
    dist.destroy_process_group()
    return model


if __name__ == "__main__":
    main()
