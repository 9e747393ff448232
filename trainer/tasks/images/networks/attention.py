"""Attention of torchvision's transformers that calls its linear layers, so that PEFT can wrap them."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.swin_transformer import ShiftedWindowAttention, shifted_window_attention

from trainer.adapters.layers import ExposedAttention


class SelfAttention(ExposedAttention):
    """Computes `nn.MultiheadAttention` of a sequence with itself, batch first.

    PEFT's own layer for it merges its update into the weights and subtracts it again in each forward pass, which changes the
    weights by rounding, and it supports neither dropout nor DoRA.
    """

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        if not attention.batch_first or attention.bias_k is not None or attention.add_zero_attn:
            raise ValueError("only attention that is batch first and adds no keys can be adapted")
        self.heads, self.dropout = attention.num_heads, attention.dropout
        self.in_proj = _linear(attention.in_proj_weight, attention.in_proj_bias)
        self.out_proj = _linear(attention.out_proj.weight, attention.out_proj.bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, *, need_weights: bool = False) -> tuple[Tensor, None]:
        """Tokens [N, T, D] → tokens [N, T, D], and no weights."""
        if need_weights or query is not key or query is not value:
            raise ValueError("this attends from a sequence to itself, and returns no weights")
        parts = self.in_proj(query).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # [3, N, heads, T, D / heads]
        query, key, value = parts.unbind()
        mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=self.dropout if self.training else 0.0)
        return self.out_proj(mixed.transpose(1, 2).flatten(2)), None

    def restored(self) -> nn.MultiheadAttention:
        """The attention module of torch."""
        width = self.in_proj.in_features
        with torch.device("meta"):
            found = nn.MultiheadAttention(width, self.heads, self.dropout, bias=self.in_proj.bias is not None, batch_first=True)
        for owner, name, tensor in (
            (found, "in_proj_weight", self.in_proj.weight), (found, "in_proj_bias", self.in_proj.bias),
            (found.out_proj, "weight", self.out_proj.weight), (found.out_proj, "bias", self.out_proj.bias),
        ):  # fmt: skip
            owner.register_parameter(name, None if tensor is None else _parameter(tensor))
        return found.train(self.training)


class WindowAttention(ExposedAttention):
    """Computes torchvision's window attention of Swin, version 1 or 2, by its own function."""

    def __init__(self, attention: ShiftedWindowAttention) -> None:
        super().__init__()
        self.attention = attention
        self.scaled = hasattr(attention, "logit_scale")
        if self.scaled and attention.qkv.bias is not None:  # version 2 has no bias of keys, and ignores what the weights hold there
            bias = attention.qkv.bias.detach().clone()
            bias.view(3, -1)[1] = 0
            attention.qkv.bias = nn.Parameter(bias)

    def forward(self, features: Tensor) -> Tensor:
        """Features [N, H, W, D] → features [N, H, W, D]."""
        own: Any = self.attention
        attended: Tensor = shifted_window_attention(
            features, CalledLayer(own.qkv), CalledLayer(own.proj), own.get_relative_position_bias(), own.window_size, own.num_heads,
            shift_size=own.shift_size, attention_dropout=own.attention_dropout, dropout=own.dropout,
            logit_scale=own.logit_scale if self.scaled else None, training=self.training,
        )  # fmt: skip
        return attended

    def restored(self) -> ShiftedWindowAttention:
        """The attention module of torchvision."""
        return self.attention


class CalledLayer:
    """Takes the place of a layer's weight: `F.linear(x, CalledLayer(layer))` is `layer(x)`, by torch's protocol for tensor-like objects."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        features, called = args[:2]
        if function is not F.linear or not isinstance(called, cls):
            raise TypeError(f"{function} cannot call a layer")
        return called.layer(features)


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A linear layer with these parameters."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    layer.register_parameter("weight", _parameter(weight))
    if bias is not None:
        layer.register_parameter("bias", _parameter(bias))
    return layer


def _parameter(tensor: Tensor) -> nn.Parameter:
    if not isinstance(tensor, nn.Parameter):
        raise TypeError("the weights of attention are parameters")
    return tensor
