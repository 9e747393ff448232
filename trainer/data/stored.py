"""A tensor of the cache: found, or built by one process while the others wait."""

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from trainer.cache import Cache, Key

POLL_SECONDS = 0.05


def stored(cache: Cache, key: Key, shape: Sequence[int], dtype: torch.dtype, fill: Callable[[Tensor], None]) -> tuple[Tensor, bool] | None:
    """The entry, filled here if need be, and whether it was found; None when it finds no room. Raises what `fill` does, and OSError."""
    while True:
        if (found := cache.find(key)) is not None:
            return found, True
        if (draft := cache.begin(key, shape, dtype)) is not None:
            with draft:
                fill(draft.tensor)
                return draft.commit(), False
        if not cache.busy(key):  # another process may have ended just now
            return (found, True) if (found := cache.find(key)) is not None else None
        time.sleep(POLL_SECONDS)
