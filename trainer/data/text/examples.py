"""Texts as input of a model: batches of tokens on the device."""

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor

from trainer import memory
from trainer.cache import Cache
from trainer.data.text.dataset import TextDataset
from trainer.data.text.tokens import FastTokenizer, Tokens, key_of, tokenize
from trainer.order import RowsAhead
from trainer.sequences import Sequences

_on_device = memory.DeviceCache[Tokens]()  # data sets that do not fit it stay on the host and are copied batch by batch


class TextExamples:
    """Implements `trainer.tasks.base.Examples` and `Ragged` for texts."""

    augmented, views = False, 0

    def __init__(self, tokens: Tokens, keys: Tensor, origin: Literal["decoded", "cached"], device: torch.device, on_device: Tokens) -> None:
        """`tokens` are on the host; `on_device` are the same tokens on the device, or on the host if they do not fit."""
        self.tokens, self.keys, self.origin = tokens, keys, origin
        self._device, self._on_device = device, on_device
        self._starts, self._ahead = on_device.starts, RowsAhead(on_device.values.device)

    @property
    def lengths(self) -> Tensor:
        """The number of tokens of each text, int64 [N] on the host."""
        return self.tokens.lengths

    @property
    def stored_bytes(self) -> int:
        """Bytes of the tokens in the cache."""
        return self.tokens.nbytes

    def take(self, rows: Tensor, view: int | None) -> Sequences:
        """Tokens and segments, int32 [B, T, 2] on the device, padded to the longest of the batch by the last token of each text."""
        longest = int(self.tokens.lengths[rows].max())  # on the host: the device is not waited for
        here = self._on_device.values.device
        if (moved := self._ahead.of(rows)) is None:
            moved = _moved(rows, here)
        lengths = self._on_device.lengths[moved]  # [B]
        steps = torch.minimum(torch.arange(longest, device=here), lengths[:, None] - 1)  # [B, T]
        values = self._on_device.values[self._starts[moved][:, None] + steps]  # [B, T, 2]
        return Sequences(_moved(values, self._device), _moved(lengths, self._device))

    def expect(self, batches: Iterable[Tensor]) -> None:
        """Move the rows of the next batches to the device of the tokens."""
        self._ahead.expect(list(batches))


def _moved(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device, copied without a synchronisation."""
    if tensor.device.type == device.type:
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def load(dataset: TextDataset, tokenizer: FastTokenizer, max_length: int, device: torch.device, cache: Cache) -> TextExamples:
    """The texts of the data set as tokens. Raises UnfitModel."""
    tokens, origin = tokenize(dataset.texts, tokenizer, max_length, cache)
    keys = torch.tensor([int(content.sha256[:15], 16) for content in dataset.contents])  # 60 bits
    if device.type == "cpu":
        return TextExamples(tokens, keys, origin, device, tokens)
    place = (f"{cache.folder}/{key_of(dataset.texts, tokenizer, max_length).digest}", device)
    if (found := _on_device.find(*place)) is None:
        if not _on_device.make_room(tokens.nbytes, device):
            return TextExamples(tokens, keys, origin, device, tokens)
        found = Tokens(tokens.values.to(device), tokens.lengths.to(device), tokens.truncated, max_length)
        _on_device.keep(*place, found, tokens.nbytes)
    return TextExamples(tokens, keys, origin, device, found)
