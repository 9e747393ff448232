"""Layers of adapted networks: bottleneck adapters, and the base of modules that replace attention."""

from abc import ABC, abstractmethod
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

NEAR_IDENTITY = 1e-3  # standard deviation of a bottleneck's initial weights


class Bottleneck(nn.Module):
    """A bottleneck adapter: features [..., D] → features + up(gelu(down(features))). Source: Houlsby et al., ICML 2019."""

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(width, size), nn.Linear(size, width)
        for layer in (self.down, self.up):
            nn.init.trunc_normal_(layer.weight, std=NEAR_IDENTITY, a=-2 * NEAR_IDENTITY, b=2 * NEAR_IDENTITY)
            nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor) -> Tensor:
        added: Tensor = self.up(F.gelu(self.down(features)))
        return features + added

    def follow(self, module: nn.Module, inputs: Any, output: Any) -> Any:
        """A forward hook: the module's output, or the first item of it, with the adapter applied."""
        # A bound method: a deep copy of the network has a hook that is bound to the copy of the adapter.
        return (self(output[0]), *output[1:]) if isinstance(output, tuple) else self(output)


class ExposedAttention(nn.Module, ABC):
    """Stands in for an attention module that reads the weights of its layers, and calls the layers, so that PEFT can wrap them."""

    @abstractmethod
    def restored(self) -> nn.Module:
        """The replaced kind of module, with the present weights."""
