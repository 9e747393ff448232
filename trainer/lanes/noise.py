"""The random numbers of an epoch, from which each lane takes its dropout."""

from collections.abc import Sequence

import torch
from torch import Tensor

LEVELS = 2**16  # a rate is rounded to a 65,536th; 16 bits cost a quarter of what a float does


class Noise:
    """Draws for one epoch, common to all lanes: lanes with the same rate drop the same, and a higher rate drops more."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self._generator = torch.Generator(device).manual_seed(seed)

    def state(self) -> Tensor:
        """Where the draws are, to be gone back to by `restore`."""
        return self._generator.get_state()

    def restore(self, state: Tensor) -> None:
        """What was drawn since then is drawn again."""
        self._generator.set_state(state)

    def field(self, shape: Sequence[int]) -> Tensor:
        """Whole numbers from -32768 to 32767, each as likely as the other: int16 of that shape."""
        count = torch.Size(shape).numel()
        words = torch.empty(-(-count // 4), dtype=torch.int64, device=self._generator.device)
        return words.random_(-(2**63), None, generator=self._generator).view(torch.int16)[:count].view(*shape)

    def masks(self, field: Tensor, rates: Sequence[float], dtype: torch.dtype) -> Tensor:
        """What each lane multiplies by: 0, or what keeps the mean as it was. [...] → [L, ...]"""
        shape = (len(rates), *(1,) * field.ndim)
        bounds = torch.tensor([threshold(rate) for rate in rates], dtype=torch.int16, device=field.device).view(shape)
        scales = torch.tensor([1 / (1 - rate) for rate in rates], dtype=dtype, device=field.device).view(shape)
        return (field >= bounds) * scales


def threshold(rate: float) -> int:
    """Draws below it are dropped."""
    return min(round(rate * LEVELS), LEVELS - 1) - LEVELS // 2
