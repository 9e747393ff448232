"""Order and batches of a run's examples, and seeds for its random numbers."""

import hashlib
from typing import Literal

import torch
from torch import Tensor

Purpose = Literal["order", "numbers"]


def shuffled(rows: Tensor, order_seed: int, epoch: int) -> Tensor:
    """The rows in the order of the epoch (from 1). Runs with equal order seeds have equal orders."""
    generator = torch.Generator().manual_seed(seed_for(order_seed, "order", epoch))
    return rows[torch.randperm(len(rows), generator=generator)]


def drawn_evenly(rows: Tensor, labels: Tensor, order_seed: int, epoch: int) -> Tensor:
    """`len(rows)` rows drawn with replacement, equally many of each label; `labels` are the labels of the rows, int64 on the host.

    If the number of labels does not divide the number of rows, some labels, drawn at random, get one row more.
    """
    generator = torch.Generator().manual_seed(seed_for(order_seed, "order", epoch))
    present = torch.unique(labels)  # sorted
    quota = torch.full((len(present),), len(rows) // len(present))
    quota[torch.randperm(len(present), generator=generator)[: len(rows) % len(present)]] += 1
    drawn = list[Tensor]()
    for label, count in zip(present.tolist(), quota.tolist(), strict=True):
        own = rows[labels == label]
        drawn.append(own[torch.randint(len(own), (count,), generator=generator)])
    found = torch.cat(drawn)
    return found[torch.randperm(len(found), generator=generator)]


def batches(rows: Tensor, size: int) -> list[Tensor]:
    """The rows in batches. A last batch of a single example is left out, because BatchNorm needs two."""
    cut = list(torch.split(rows, size))
    return cut[:-1] if size > 1 and len(cut[-1]) == 1 else cut


def seed_for(seed: int, purpose: Purpose, epoch: int) -> int:
    """A 63-bit seed for one purpose in one epoch: the beginning of the SHA-256 of all three."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{epoch}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
