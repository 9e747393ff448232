"""Modules between the last stage of a text model and its head: pooling, and the two halves of the normalisation behind the last stage."""

from typing import Literal, assert_never

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.sequences import Sequences

PoolingName = Literal["cls", "mean", "last", "max"]


class Pooling(nn.Module):
    """Sequences [B, T, D] → one vector each [B, D]: the first token, the last one, or mean or maximum over all tokens.

    Tokens are standardised before a mean or maximum and after a choice of one token, which is the same and costs less. It has no
    parameters, so its output can be stored and shared by heads that are trained together.

    A maximum does not commute with the scale behind the pooling if that is negative: the largest value becomes the smallest. So a
    standardising maximum gives both extremes [B, 2 D], of which `TokenScale` takes the one that is the largest when scaled.
    """

    def __init__(self, kind: PoolingName, standardise: "StandardiseTokens | None" = None) -> None:
        super().__init__()
        self.kind, self.standardise = kind, standardise

    def forward(self, tokens: Sequences) -> Tensor:
        values, lengths = tokens.values, tokens.lengths
        match self.kind:
            case "cls":
                return self._standardised(values[:, 0])
            case "last":
                return self._standardised(values[torch.arange(len(values), device=values.device), lengths - 1])
            case "mean":
                kept = self._standardised(values).masked_fill(~tokens.mask[:, :, None], 0)
                return kept.sum(1) / lengths[:, None].to(kept.dtype)
            case "max":
                found, padding = self._standardised(values), ~tokens.mask[:, :, None]
                largest = found.masked_fill(padding, -torch.inf).amax(1)
                return largest if self.standardise is None else torch.cat((largest, found.masked_fill(padding, torch.inf).amin(1)), 1)
            case _:
                assert_never(self.kind)

    def _standardised(self, values: Tensor) -> Tensor:
        found: Tensor = values if self.standardise is None else self.standardise(values)
        return found

    def extra_repr(self) -> str:
        return self.kind


class StandardiseTokens(nn.Module):
    """The half of a normalisation over the last dimension that has no parameters: by mean and variance, or by the root mean square."""

    def __init__(self, kind: Literal["layer", "rms"], eps: float) -> None:
        super().__init__()
        self.kind, self.eps = kind, eps

    def forward(self, values: Tensor) -> Tensor:
        if self.kind == "layer":
            return F.layer_norm(values, values.shape[-1:], eps=self.eps)
        full = values.float()
        return (full * torch.rsqrt(full.pow(2).mean(-1, keepdim=True) + self.eps)).to(values.dtype)


class TokenScale(nn.Module):
    """The other half: scale and, if the normalisation has one, shift of each channel. `offset` is added to the scale (Gemma: 1).

    With `extremes` the input [B, 2 D] has the largest and the smallest value of each channel, and the output is the largest scaled one.
    """

    def __init__(self, norm: nn.Module, offset: float = 0.0, *, extremes: bool = False) -> None:
        super().__init__()
        self.norm, self.offset, self.extremes = norm, offset, extremes

    def forward(self, values: Tensor) -> Tensor:
        own = dict(self.norm.named_parameters(recurse=False))
        weight = own["weight"] + self.offset if self.offset else own["weight"]
        if self.extremes:
            largest, smallest = values.chunk(2, 1)
            values = torch.where(weight >= 0, largest, smallest)
        scaled = values * weight
        return scaled + own["bias"] if "bias" in own else scaled
