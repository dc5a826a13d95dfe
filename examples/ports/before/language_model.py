# SPDX-License-Identifier: Apache-2.0
"""A language model on one process: padded sentences in dictionaries, a mean over tokens."""

import torch
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


def objective(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)[:, 1:]
    logits = model(**batch)[:, :-1]
    return functional.cross_entropy(logits.transpose(1, 2), labels)


def main() -> nn.Module:
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = LanguageModel().to(device)
    optimizer = torch.optim.Adam(model.parameters(), 0.01, eps=1e-6)
    loader = DataLoader(Sentences(), BATCH, collate_fn=padded)
    for epoch in range(EPOCHS):
        for batch in loader:
            loss = objective(model, {name: part.to(device) for name, part in batch.items()})
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
        print(f"epoch {epoch}: loss {loss:.4f}")
    return model


if __name__ == "__main__":
    main()
