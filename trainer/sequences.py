"""Batches of sequences of different lengths, such as the tokens of texts."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Sequences:
    """B sequences, padded at the end to the length T of the longest. Padded positions are finite, and no result depends on them."""

    values: Tensor  # [B, T, ...]
    lengths: Tensor  # int64 [B], at least 1, on the device of the values

    def __len__(self) -> int:
        return len(self.values)

    @property
    def mask(self) -> Tensor:
        """bool [B, T]: whether the position belongs to the sequence."""
        return torch.arange(self.values.shape[1], device=self.lengths.device) < self.lengths[:, None]

    @property
    def device(self) -> torch.device:
        """The device of both tensors."""
        return self.values.device

    @property
    def nbytes(self) -> int:
        """Bytes of the values, padding included."""
        return self.values.nbytes

    def to(self, device: torch.device) -> Self:
        """The sequences on the device."""
        return type(self)(self.values.to(device), self.lengths.to(device))

    def replaced(self, values: Tensor) -> "Sequences":
        """Other values [B, T, ...] for the same positions."""
        return Sequences(values, self.lengths)

    def packed(self) -> Tensor:
        """The values without padding, one sequence after the other: [sum of lengths, ...]."""
        return self.values[self.mask]


Features = Tensor | Sequences
"""The input or output of a model's stages: a dense tensor [B, ...], or sequences of different lengths."""


def places_of(starts: Tensor, lengths: Tensor) -> Tensor:
    """Positions of padded sequences in a packed tensor: int64 [B, T]. A padded position repeats its sequence's last one.

    `starts` and `lengths`, int64 [B], are the position of each sequence's first value in the packed tensor, and its length.
    """
    steps = torch.arange(int(lengths.max()), device=lengths.device)
    return starts[:, None] + torch.minimum(steps, lengths[:, None] - 1)


def starts_of(lengths: Tensor) -> Tensor:
    """Positions of the first values of packed sequences with those lengths: int64 [B]."""
    return lengths.cumsum(0) - lengths


def dense(features: Features) -> Tensor:
    """The features of a model without sequences, or behind its pool. Raises TypeError for sequences."""
    if isinstance(features, Sequences):
        raise TypeError("a dense tensor is needed here, not sequences")
    return features
