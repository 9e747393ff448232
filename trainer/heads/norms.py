"""Normalisation in heads trained together, with hand-written forward and backward passes. Shapes are those of `trainer.heads.layers`."""

import torch
from torch import Tensor

from trainer.heads.layers import MemberParameter, Noise


class MemberScale:
    """A first layer that is the scale and shift of a normalisation: y = b + (w + offset) ∘ x, for each channel.

    Backward, with slope g: ∂loss/∂b = Σ g and ∂loss/∂w = Σ g ∘ x, both over places and examples. With `extremes` the input has two values
    of each channel, and x is the first one for members whose scale is positive, else the second one.
    """

    def __init__(self, weight: MemberParameter, bias: MemberParameter, offset: float = 0.0, *, extremes: bool = False) -> None:
        self._weight, self._bias, self._offset, self._extremes = weight, bias, offset, extremes
        self._given = torch.empty(0)

    def forward(self, rows: Tensor, places: int, noise: Noise | None) -> Tensor:
        """Rows [P * B, D], shared, or [P * B, 2 D] with the extremes → [M, D, P, B]."""
        weight = (self._weight.value + self._offset if self._offset else self._weight.value)[:, :, None]
        self._given = rows.T.contiguous()  # [D, P * B]
        if self._extremes:
            largest, smallest = self._given.chunk(2)
            self._given = torch.where(weight >= 0, largest, smallest)  # [M, D, P * B]
        scaled = torch.addcmul(self._bias.value[:, :, None], weight, self._given)
        return scaled.view(*scaled.shape[:2], places, -1)

    def backward(self, slope: Tensor) -> None:
        """Slope [M, D, P, B]. The input needs no gradient, since it is the output of frozen stages."""
        slope = slope.flatten(2)
        torch.sum(slope, 2, out=self._bias.gradient)
        torch.sum(slope * self._given, 2, out=self._weight.gradient)


class MemberNorm:
    """A LayerNorm over the channels of each member's own activations: y = b + w ∘ n with n = r (x - μ) and r = 1 / √(σ² + eps).

    Backward, with slope g and h = w ∘ g: ∂loss/∂b = Σ g, ∂loss/∂w = Σ g ∘ n and ∂loss/∂x = r (h - mean(h) - n mean(h ∘ n)). The means
    are over the channels.
    """

    def __init__(self, weight: MemberParameter, bias: MemberParameter, eps: float) -> None:
        self._weight, self._bias, self._eps = weight, bias, eps
        self._normal = self._root = torch.empty(0)

    def forward(self, given: Tensor, noise: Noise | None) -> Tensor:
        variance, mean = torch.var_mean(given, 1, correction=0, keepdim=True)
        self._root = (variance + self._eps).rsqrt()
        self._normal = (given - mean) * self._root
        return torch.addcmul(self._bias.value[:, :, None, None], self._weight.value[:, :, None, None], self._normal)

    def backward(self, slope: Tensor) -> Tensor:
        torch.sum(slope, (2, 3), out=self._bias.gradient)
        torch.sum(slope * self._normal, (2, 3), out=self._weight.gradient)
        inner = slope * self._weight.value[:, :, None, None]
        along = (inner * self._normal).mean(1, keepdim=True)
        return (inner - inner.mean(1, keepdim=True) - self._normal * along) * self._root
