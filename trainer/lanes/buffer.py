"""Memory that is used again."""

from collections.abc import Sequence

import torch
from torch import Tensor


class Buffer:
    """Room for one tensor, taken anew only when it is too small: the pages of fresh memory cost several times the arithmetic on it."""

    def __init__(self) -> None:
        self._room = torch.empty(0)

    def of(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """A tensor of that shape, of the kind of `like`, with any values. It ends the life of the one before."""
        count = torch.Size(shape).numel()
        if self._room.numel() < count or self._room.dtype != like.dtype or self._room.device != like.device:
            self._room = like.new_empty(count)
        return self._room[:count].view(*shape)
