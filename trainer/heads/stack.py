"""Finds the layers of a model's head that `trainer.heads.layers` computes, and the part of the head before them."""

from dataclasses import dataclass
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops.misc import Permute

from trainer.models import ClassToken, GlobalMean, StagedModel
from trainer.pooling import Pooling, TokenScale


class UnsupportedHead(Exception):
    """The head has a layer without a hand-written gradient."""


@dataclass(frozen=True, slots=True)
class Linear:
    """A linear layer or a 1x1 convolution; the fields are the names of its tensors in the network."""

    weight: str
    bias: str | None


@dataclass(frozen=True, slots=True)
class Affine:
    """Scale and shift of each channel: the trainable half of a normalisation, behind `Standardise` or a standardising pool."""

    weight: str
    bias: str | None
    offset: float = 0.0  # added to the scale
    extremes: bool = False  # whether its input has the largest and the smallest value of each channel, as `trainer.pooling.TokenScale`


@dataclass(frozen=True, slots=True)
class ChannelNorm:
    """A LayerNorm over the channels of one place, behind a linear layer."""

    weight: str
    bias: str | None
    eps: float


@dataclass(frozen=True, slots=True)
class Dropout:
    """Dropout; each member has its own rate."""


@dataclass(frozen=True, slots=True)
class PlacesMean:
    """The mean over height and width."""


@dataclass(frozen=True, slots=True)
class Activation:
    """An elementwise function."""

    module: nn.Module


Layer = Linear | Affine | ChannelNorm | Dropout | PlacesMean | Activation
Stack = tuple[Layer, ...]
"""Begins with an Affine, a Linear, or a Dropout and a Linear."""


class Standardise(nn.Module):
    """A LayerNorm over the channels without scale and shift. It has no parameters, so all members share its output."""

    def __init__(self, axis: int, eps: float) -> None:
        super().__init__()
        self.axis, self.eps = axis, eps

    def forward(self, features: Tensor) -> Tensor:
        last = features.movedim(self.axis, -1)
        return F.layer_norm(last, last.shape[-1:], eps=self.eps).movedim(-1, self.axis)


def split_head(model: StagedModel) -> tuple[nn.Module, Stack]:
    """The head's deterministic prefix without parameters, and the layers behind it. Raises UnsupportedHead.

    The prefix maps the last stage's output to features [N, D], or [N, D, H, W] when the stack begins with a convolution. Its output
    is computed once for all members, so it should be as long as possible. A scale and shift commutes with a mean over places; so
    a LayerNorm's standardisation and the pool behind it go to the prefix, and only its scale and shift to the stack.
    """
    names = {id(tensor): name for name, tensor in model.network.state_dict(keep_vars=True).items()}
    prefix, stack, flat = list[nn.Module](), list[Layer](), False
    for layer in _leaves(model.head):
        begun = any(not isinstance(done, Affine) for done in stack)  # a layer other than a scale and shift is in the stack
        flat = flat or isinstance(layer, ClassToken | GlobalMean | Pooling) or _pools_all(layer)  # one place is left
        match layer:
            case nn.Identity():
                continue
            case nn.LayerNorm() | TokenScale() if not stack:
                prefix += _standardise(layer)
                stack.append(_affine_half(layer, names))
            case nn.Dropout():
                stack.append(Dropout())
            case nn.Linear() | nn.Conv2d():
                stack.append(Linear(*_tensors(_pointwise(layer), names)))
            case nn.AdaptiveAvgPool2d() if begun and _pools_all(layer):
                stack.append(PlacesMean())
            case nn.Flatten() if begun and flat:
                continue
            case nn.ReLU() | nn.Hardswish() | nn.GELU() | nn.Tanh() | nn.LayerNorm() if begun:
                stack.append(_between(layer, names, flat=flat))
            case _ if not stack or (not begun and (flat or isinstance(layer, Permute))):
                prefix.append(_without_parameters(layer))
            case _:
                raise UnsupportedHead(f"{type(layer).__name__} has no hand-written gradient at this place of the head")
    return nn.Sequential(*prefix), _checked(tuple(stack))


def _standardise(layer: nn.LayerNorm | TokenScale) -> list[nn.Module]:
    """The half of a normalisation without parameters; nothing if it is in the pool before it."""
    return [] if isinstance(layer, TokenScale) else [Standardise(1 if isinstance(layer, _channels_first()) else -1, layer.eps)]


def _affine_half(layer: nn.LayerNorm | TokenScale, names: dict[int, str]) -> Affine:
    if isinstance(layer, TokenScale):
        return Affine(*_tensors(layer.norm, names), layer.offset, layer.extremes)
    return Affine(*_tensors(layer, names))


def _between(layer: nn.Module, names: dict[int, str], *, flat: bool) -> Activation | ChannelNorm:
    """A layer between linear ones. Raises UnsupportedHead for a normalisation of more than one place."""
    if not isinstance(layer, nn.LayerNorm):
        return Activation(layer)
    if not flat or len(layer.normalized_shape) > 1:
        raise UnsupportedHead("a normalisation of more than one place has no hand-written gradient")
    return ChannelNorm(*_tensors(layer, names), layer.eps)


def _leaves(module: nn.Module) -> list[nn.Module]:
    if not isinstance(module, nn.Sequential) or type(module).forward is not nn.Sequential.forward:
        return [module]
    return [leaf for child in module for leaf in _leaves(child)]


def _pools_all(layer: nn.Module) -> bool:
    return isinstance(layer, nn.AdaptiveAvgPool2d) and layer.output_size in (1, (1, 1))


def _channels_first() -> type[nn.Module]:
    from torchvision.models.convnext import LayerNorm2d

    return cast(type[nn.Module], LayerNorm2d)


def _pointwise(layer: nn.Linear | nn.Conv2d) -> nn.Module:
    if isinstance(layer, nn.Conv2d) and (
        layer.weight.shape[2:] != (1, 1) or layer.stride != (1, 1) or layer.groups != 1 or layer.padding != (0, 0)
    ):
        raise UnsupportedHead("a convolution of more than one place has no hand-written gradient")
    return layer


def _tensors(layer: nn.Module, names: dict[int, str]) -> tuple[str, str | None]:
    found = dict(layer.named_parameters(recurse=False))
    if found.keys() not in ({"weight", "bias"}, {"weight"}):
        raise UnsupportedHead(f"{type(layer).__name__} has {sorted(found)}, not weight and bias")
    return names[id(found["weight"])], names[id(found["bias"])] if "bias" in found else None


def _without_parameters(layer: nn.Module) -> nn.Module:
    if any(True for _ in layer.state_dict()):
        raise UnsupportedHead(f"{type(layer).__name__} has no hand-written gradient")
    return layer


def _checked(stack: Stack) -> Stack:
    first = stack[1:2] if stack[:1] == (Dropout(),) else stack[:1]
    if not first or not isinstance(first[0], Linear | Affine) or (isinstance(first[0], Affine) and stack[0] != first[0]):
        raise UnsupportedHead("the head does not begin with a linear layer")
    return stack
