# SPDX-License-Identifier: Apache-2.0
"""A language model on any number of ranks: padded sentences in dictionaries, a mean over tokens.

python examples/ports/language_model.py
mpiexec -n 2 python examples/ports/language_model.py
PYTHONPATH=examples/ports mpiexec -n 2 hpc-dl train examples/ports/language_model.toml
"""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

import hpc_dl
from hpc_dl.data.base import Data
from hpc_dl.data.workers import MapStyle

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


def main(session: hpc_dl.Session) -> nn.Module:
    torch.manual_seed(0)
    model = LanguageModel().to(session.device.torch_device)
    optimizer = torch.optim.Adam(model.parameters(), 0.01, eps=1e-6)
    session.distribute(model, optimizer)
    loader = session.loader(Sentences(), global_batch=BATCH, collate_fn=padded, shuffle=False)
    state, folder = {"model": model, "optimizer": optimizer}, f"runs/language_model-{session.world_size}"
    with hpc_dl.Run(session, state, global_batch=BATCH, epochs=EPOCHS, folder=folder) as run:
        for _ in run.epochs():
            for batch in run.steps(loader):
                loss, tokens = objective(model, batch)
                optimizer.zero_grad()
                session.exchange.backward(loss, weight=tokens)
                nn.utils.clip_grad_norm_(model.parameters(), 0.5)
                optimizer.step()
                run.record(loss, weight=tokens)
    return model


def data() -> Data:
    return Data(MapStyle(Sentences(), padded), MapStyle(Sentences(), padded))


if __name__ == "__main__":
    with hpc_dl.start() as session:
        main(session)
