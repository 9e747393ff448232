"""The heads of all members in one set of tensors: parameters, outputs, and gradients by hand."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.heads.layers import MemberActivation, MemberDropout, MemberLayer, MemberLinear, MemberMean, Parameter, Scale, SharedLinear
from trainer.heads.noise import Noise
from trainer.heads.split import Activation, Affine, Dropout, Linear, PlacesMean, Stack
from trainer.stopwatch import Stopwatch
from trainer.tasks.base import HeadsLoss

ACTIVATION_BYTES = 256 * 2**20  # of the members that are computed at once; the others follow within the same step
COPIES = 3  # of each layer's activations: forward, backward and intermediate


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Traits:
    """What the members' forward pass and loss follow from besides their parameters."""

    dropout: tuple[float, ...]
    loss: HeadsLoss

    def of(self, first: int, last: int) -> "Traits":
        """Those of members `first` to `last`, the latter excluded."""
        return Traits(dropout=self.dropout[first:last], loss=self.loss.of(first, last))


class BatchedHeads:
    """One head for each member. Parameters by their names in the network, each [M, ...]."""

    def __init__(self, stack: Stack, values: Mapping[str, Tensor], traits: Traits, *, half: bool = False) -> None:
        self.parameters = {name: Parameter(value, torch.zeros_like(value)) for name, value in values.items()}
        self._stack, self._traits, self._half = stack, traits, half
        self._parts = dict[int, list[_Part]]()  # by the number of members in a part

    def __len__(self) -> int:
        return len(self._traits.dropout)

    def kept(self, places: Sequence[int], traits: Traits) -> "BatchedHeads":
        """Copies of the heads at those places, which have these traits."""
        values = {name: parameter.value[list(places)] for name, parameter in self.parameters.items()}
        return BatchedHeads(self._stack, values, traits, half=self._half)

    def learn(self, features: Tensor, targets: Tensor, noise: Noise, stopwatch: Stopwatch) -> Tensor:
        """Features [B, D] or [B, D, H, W] and targets [B, ...] → mean loss of each member [M]. Writes the gradients in `parameters`."""
        rows, places = _rows(features)
        found, parts = list[Tensor](), self._parts_of(rows)
        before = noise.state() if len(parts) > 1 else None
        for part in parts:
            if before is not None:
                noise.restore(before)  # all members use the same draws
            with stopwatch("forward"):
                outputs = part.forward(rows, places, noise)
                losses, slope = part.loss(outputs.squeeze(2), targets)
            with stopwatch("backward"):
                part.backward(slope.unsqueeze(2))
            found.append(losses)
        return found[0] if len(found) == 1 else torch.cat(found)

    def outputs(self, features: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Features [B, D] or [B, D, H, W] → members and their outputs, float [m, O, B], part by part, in evaluation mode."""
        rows, places = _rows(features)
        for part in self._parts_of(rows):
            yield part.members, part.forward(rows, places, None).squeeze(2)

    def _parts_of(self, rows: Tensor) -> "list[_Part]":
        widths = sum(parameter.value.shape[1] for parameter in self.parameters.values() if parameter.value.ndim > 2)
        count = max(1, ACTIVATION_BYTES // (COPIES * rows.element_size() * len(rows) * max(1, widths)))
        if count not in self._parts:
            self._parts[count] = [self._part(first, min(first + count, len(self))) for first in range(0, len(self), count)]
        return self._parts[count]

    def _part(self, first: int, last: int) -> "_Part":
        parameters = {name: parameter.of(first, last) for name, parameter in self.parameters.items()}
        return _Part(self._stack, slice(first, last), parameters, self._traits.of(first, last), half=self._half)


class _Part:
    """Members whose activations are in memory at once."""

    def __init__(self, stack: Stack, members: slice, parameters: Mapping[str, Parameter], traits: Traits, *, half: bool) -> None:
        self.members, self.loss = members, traits.loss
        drops = stack[:1] == (Dropout(),)
        first, *rest = stack[1:] if drops else stack
        self._first = _first(first, parameters, traits.dropout if drops else (0.0,) * len(traits.dropout), half=half)
        self._rest = [_own(layer, parameters, traits.dropout, half=half) for layer in rest]

    def forward(self, rows: Tensor, places: int, noise: Noise | None) -> Tensor:
        """Rows [P * B, D] → outputs [M, O, 1, B]."""
        found = self._first.forward(rows, places, noise)
        for layer in self._rest:
            found = layer.forward(found, noise)
        return found

    def backward(self, slope: Tensor) -> None:
        """Gradient of the loss by the outputs → by all parameters."""
        for layer in reversed(self._rest):
            slope = layer.backward(slope)
        self._first.backward(slope)


def _first(layer: object, parameters: Mapping[str, Parameter], rates: Sequence[float], *, half: bool) -> SharedLinear | Scale:
    match layer:
        case Linear():
            return SharedLinear(parameters[layer.weight], parameters[layer.bias], rates, half=half)
        case Affine():
            return Scale(parameters[layer.weight], parameters[layer.bias])
        case _:
            raise TypeError(f"no head begins with {layer}")


def _own(layer: object, parameters: Mapping[str, Parameter], rates: Sequence[float], *, half: bool) -> MemberLayer:
    match layer:
        case Linear():
            return MemberLinear(parameters[layer.weight], parameters[layer.bias], half=half)
        case Dropout():
            return MemberDropout(rates)
        case PlacesMean():
            return MemberMean()
        case Activation():
            return MemberActivation(layer.module)
        case _:
            raise TypeError(f"{layer} can only come first")


def _rows(features: Tensor) -> tuple[Tensor, int]:
    """[B, D] as it is, [B, D, H, W] → [H * W * B, D]; and the number of places."""
    if features.ndim == 2:
        return features, 1
    places = features.shape[2] * features.shape[3]
    return features.permute(2, 3, 0, 1).reshape(places * len(features), -1), places  # a row of channels is copied as one piece
