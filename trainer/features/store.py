"""Entries of a process that has no cache folder: in its memory, for its later runs."""

import math
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import torch
from torch import Tensor

from trainer import memory
from trainer.cache import Key

SHARE = 1 / 8  # of the memory that is free, or kept here already
UNKNOWN_BYTES = 2**30  # where the system does not tell what is free


class Draft(AbstractContextManager["Draft"], Protocol):
    """An entry that is being built; leaving the context without `commit` abandons it."""

    tensor: Tensor

    def commit(self) -> Tensor:
        """Make it an entry."""


class Store(Protocol):
    """Where entries are found and built: `trainer.cache.Cache`, or this module's."""

    def find(self, key: Key) -> Tensor | None:
        """The entry, not to be written to; None when absent."""

    def holds(self, key: Key) -> bool:
        """Whether an entry of that name is there."""

    def begin(self, key: Key, shape: Sequence[int], dtype: torch.dtype) -> Draft | None:
        """A new entry to be filled; None when it finds no room or is being built already."""

    def busy(self, key: Key) -> bool:
        """Whether somebody else is building it."""


class MemoryStore:
    """Least recently used entries go when there is no more room; who holds a tensor keeps it."""

    def __init__(self) -> None:
        self._entries = OrderedDict[str, Tensor]()

    @property
    def budget(self) -> int:
        """Bytes that all entries may take."""
        free = memory.available()
        return UNKNOWN_BYTES if free is None else int((free + self._held) * SHARE)

    @property
    def _held(self) -> int:
        return sum(entry.nbytes for entry in self._entries.values())

    def find(self, key: Key) -> Tensor | None:
        """The entry, if it is still here."""
        if key.digest not in self._entries:
            return None
        self._entries.move_to_end(key.digest)
        return self._entries[key.digest]

    def holds(self, key: Key) -> bool:
        """Whether the entry is still here."""
        return key.digest in self._entries

    def begin(self, key: Key, shape: Sequence[int], dtype: torch.dtype) -> "MemoryDraft | None":
        """None when it is larger than all that may be kept."""
        budget, size = self.budget, math.prod(shape) * dtype.itemsize
        if size > budget:
            return None
        while self._held + size > budget:
            self._entries.popitem(last=False)
        return MemoryDraft(self._entries, key.digest, torch.empty(tuple(shape), dtype=dtype))

    def busy(self, key: Key) -> bool:
        """Never: a process trains one run at a time."""
        return False


class MemoryDraft(nullcontext["MemoryDraft"]):
    """Becomes an entry only by `commit`."""

    def __init__(self, entries: OrderedDict[str, Tensor], digest: str, tensor: Tensor) -> None:
        super().__init__(self)
        self.tensor = tensor
        self._entries, self._digest = entries, digest

    def commit(self) -> Tensor:
        """Keep it."""
        self._entries[self._digest] = self.tensor
        return self.tensor
