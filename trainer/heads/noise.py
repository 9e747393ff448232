"""Random numbers of a round, from which every member of a head ensemble takes its dropout."""

from collections.abc import Sequence

import torch
from torch import Tensor

LEVELS = 2**16  # a rate is rounded to a 65,536th; 16 bits cost a quarter of what a float does


class Noise:
    """Draws common to all members: members with the same rate drop the same, and a higher rate drops more."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self._generator = torch.Generator(device).manual_seed(seed)

    def state(self) -> Tensor:
        """The generator's state, for `restore`."""
        return self._generator.get_state()

    def restore(self, state: Tensor) -> None:
        """Repeat the draws made since the state was taken."""
        self._generator.set_state(state)

    def field(self, shape: Sequence[int]) -> Tensor:
        """Uniform whole numbers from -32768 to 32767: int16 of that shape."""
        count = torch.Size(shape).numel()
        words = torch.empty(-(-count // 4), dtype=torch.int64, device=self._generator.device)
        return words.random_(-(2**63), None, generator=self._generator).view(torch.int16)[:count].view(*shape)


def bounds(rates: Sequence[float], ndim: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Draws below the first tensor are dropped; the second scales the rest so that the mean stays: int16 and `like` [M, 1, …].

    `ndim` is the number of dimensions of one member.
    """
    shape = (len(rates), *(1,) * ndim)
    lowest = torch.tensor([threshold(rate) for rate in rates], dtype=torch.int16, device=like.device)
    scales = torch.tensor([1 / (1 - rate) for rate in rates], dtype=like.dtype, device=like.device)
    return lowest.view(shape), scales.view(shape)


def threshold(rate: float) -> int:
    """Draws below it are dropped."""
    return min(round(rate * LEVELS), LEVELS - 1) - LEVELS // 2
