"""Layers of heads that torch does not have. Their names are part of the keys of stored outputs."""

from torch import Tensor, nn


class GlobalMean(nn.Module):
    """[N, D, H, W] → [N, D]."""

    def forward(self, features: Tensor) -> Tensor:
        return features.mean([2, 3])


class ClassToken(nn.Module):
    """Tokens [N, T, D] → the features of the first one [N, D]."""

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens[:, 0]
