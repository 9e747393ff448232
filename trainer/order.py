"""Order and batches of a run's examples, and seeds for its random numbers."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from trainer.transfers import sent

Purpose = Literal["order", "numbers", "adapters", "stages"]


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


POOL = 50  # batches whose examples are sorted by length together


def bucketed(rows: Tensor, lengths: Tensor, batch_size: int, order_seed: int, epoch: int) -> list[Tensor]:
    """The rows shuffled into batches of similar lengths, which need little padding; a shorter batch is the last one.

    Rows are shuffled; POOL batches at a time are sorted by length, equal lengths in random order; then the batches are shuffled. The rows
    of the shorter batch are drawn before lengths are compared. `lengths` are those of all examples, int64 [N] on the host.
    """
    generator = torch.Generator().manual_seed(seed_for(order_seed, "order", epoch))
    order = rows[torch.randperm(len(rows), generator=generator)]
    whole = len(order) - len(order) % batch_size
    pools = torch.split(order[:whole], POOL * batch_size)
    cut = [batch for pool in pools if len(pool) for batch in torch.split(pool[lengths[pool].argsort(stable=True)], batch_size)]
    places = torch.randperm(len(cut), generator=generator).tolist()
    return [*(cut[place] for place in places), *([order[whole:]] if whole < len(order) else [])]


class RowsAhead:
    """The rows of announced batches on a device, moved there by one copy. A copy for each batch would cost the host time in each step."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._moved = dict[int, tuple[Tensor, Tensor]]()  # by the identity of the batch's rows, which are kept so that it stays theirs

    def expect(self, batches: Sequence[Tensor], places: Callable[[Tensor], Tensor] | None = None) -> None:
        """Announce the next batches; `of` then returns the batch's rows, mapped by `places` if it is given. Replaces the last call.

        Does nothing on a CPU, where there is nothing to move.
        """
        self._moved = {}
        if self._device.type == "cpu" or not len(batches):
            return
        rows = torch.cat(list(batches))
        rows = rows if places is None else places(rows)
        moved = torch.split(sent(rows, self._device), [len(batch) for batch in batches])
        self._moved = {id(batch): (batch, own) for batch, own in zip(batches, moved, strict=True)}

    def of(self, batch: Tensor) -> Tensor | None:
        """The rows on the device; None if the batch was not announced."""
        known = self._moved.get(id(batch))
        return None if known is None else known[1]


def seed_for(seed: int, purpose: Purpose, epoch: int) -> int:
    """A 63-bit seed for one purpose in one epoch: the beginning of the SHA-256 of all three."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{epoch}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
