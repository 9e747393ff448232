"""The heads of all lanes: their parameters, their losses and gradients, and what they answer."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.lanes.layers import LaneLayer, OwnActivation, OwnDropout, OwnLinear, OwnMean, Parameter, Scale, SharedLinear
from trainer.lanes.noise import Noise
from trainer.lanes.split import Activation, Affine, Dropout, Linear, PlacesMean, Stack
from trainer.stopwatch import Stopwatch

ACTIVATION_BYTES = 256 * 2**20  # of one group of lanes; with more, lanes are gone through group by group within a step
COPIES = 3  # of each layer's activations: forward, backward, and what is in between


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Traits:
    """In what lanes differ while a batch goes through them."""

    dropout: tuple[float, ...]
    smoothing: Tensor  # [L]

    def of(self, first: int, last: int) -> "Traits":
        """Those of lanes `first` to `last`, the latter excluded."""
        return Traits(dropout=self.dropout[first:last], smoothing=self.smoothing[first:last])


class Heads:
    """One head a lane. Parameters by their names in the network, each [L, ...]."""

    def __init__(self, stack: Stack, values: Mapping[str, Tensor], traits: Traits, *, half: bool = False) -> None:
        self.parameters = {name: Parameter(value, torch.zeros_like(value)) for name, value in values.items()}
        self._stack, self._traits, self._half = stack, traits, half
        self._parts = dict[int, list[_Part]]()  # by how many lanes go together

    @property
    def lanes(self) -> int:
        """How many there are."""
        return len(self._traits.dropout)

    @property
    def device(self) -> torch.device:
        """Where they lie."""
        return self._traits.smoothing.device

    def kept(self, lanes: Sequence[int], traits: Traits) -> "Heads":
        """Those lanes alone, which have these traits."""
        values = {name: parameter.value[list(lanes)] for name, parameter in self.parameters.items()}
        return Heads(self._stack, values, traits, half=self._half)

    def learn(self, features: Tensor, labels: Tensor, noise: Noise, stopwatch: Stopwatch) -> Tensor:
        """Features [B, D] or [B, D, H, W] and labels [B] → the mean loss of each lane [L]; the gradients lie in `parameters`."""
        rows, places = _rows(features)
        found, parts = list[Tensor](), self._parts_of(rows)
        before = noise.state() if len(parts) > 1 else None
        for part in parts:
            if before is not None:
                noise.restore(before)  # all lanes see the same draws
            with stopwatch("forward"):
                logits = part.forward(rows, places, noise)
                losses, slope = _cross_entropy(logits.squeeze(2), labels, part.smoothing)
            with stopwatch("backward"):
                part.backward(slope.unsqueeze(2))
            found.append(losses)
        return found[0] if len(found) == 1 else torch.cat(found)

    def answer(self, features: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Features [B, D] or [B, D, H, W] → lanes and their logits, float [l, C, B], group by group, in evaluation mode."""
        rows, places = _rows(features)
        for part in self._parts_of(rows):
            yield part.lanes, part.forward(rows, places, None).squeeze(2)

    def _parts_of(self, rows: Tensor) -> "list[_Part]":
        widths = sum(parameter.value.shape[1] for parameter in self.parameters.values() if parameter.value.ndim > 2)
        count = max(1, ACTIVATION_BYTES // (COPIES * rows.element_size() * len(rows) * max(1, widths)))
        if count not in self._parts:
            self._parts[count] = [self._part(first, min(first + count, self.lanes)) for first in range(0, self.lanes, count)]
        return self._parts[count]

    def _part(self, first: int, last: int) -> "_Part":
        parameters = {name: parameter.of(first, last) for name, parameter in self.parameters.items()}
        return _Part(self._stack, slice(first, last), parameters, self._traits.of(first, last), half=self._half)


class _Part:
    """Some of the lanes, whose activations are in memory at once."""

    def __init__(self, stack: Stack, lanes: slice, parameters: Mapping[str, Parameter], traits: Traits, *, half: bool) -> None:
        self.lanes, self.smoothing = lanes, traits.smoothing if bool(traits.smoothing.any()) else None
        drops = stack[:1] == (Dropout(),)
        first, *rest = stack[1:] if drops else stack
        self._first = _first(first, parameters, traits.dropout if drops else (0.0,) * len(traits.dropout), half=half)
        self._rest = [_own(layer, parameters, traits.dropout, half=half) for layer in rest]

    def forward(self, rows: Tensor, places: int, noise: Noise | None) -> Tensor:
        """Rows [P * B, D] → logits [L, C, 1, B]."""
        found = self._first.forward(rows, places, noise)
        for layer in self._rest:
            found = layer.forward(found, noise)
        return found

    def backward(self, slope: Tensor) -> None:
        """From the loss's gradient by the logits to those of all parameters."""
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


def _own(layer: object, parameters: Mapping[str, Parameter], rates: Sequence[float], *, half: bool) -> LaneLayer:
    match layer:
        case Linear():
            return OwnLinear(parameters[layer.weight], parameters[layer.bias], half=half)
        case Dropout():
            return OwnDropout(rates)
        case PlacesMean():
            return OwnMean()
        case Activation():
            return OwnActivation(layer.module)
        case _:
            raise TypeError(f"{layer} can only come first")


def _rows(features: Tensor) -> tuple[Tensor, int]:
    """[B, D] as it is, [B, D, H, W] → [H * W * B, D]; and the number of places."""
    if features.ndim == 2:
        return features, 1
    places = features.shape[2] * features.shape[3]
    return features.permute(2, 3, 0, 1).reshape(places * len(features), -1), places  # a row of channels is copied as one piece


def _cross_entropy(logits: Tensor, labels: Tensor, smoothing: Tensor | None) -> tuple[Tensor, Tensor]:
    """Logits [L, C, B], true classes [B], label smoothing [L] → mean losses [L], and their gradient by the logits."""
    lanes, classes, images = logits.shape
    logs = logits.log_softmax(1)
    true = labels.expand(lanes, 1, images)
    losses, slope = logs.gather(1, true).mean((1, 2)).neg_(), logs.exp()
    if smoothing is None:
        slope.scatter_add_(1, true, slope.new_full((1, 1, 1), -1).expand(lanes, 1, images))
    else:
        losses = losses * (1 - smoothing) - logs.mean((1, 2)) * smoothing
        slope.sub_((smoothing / classes)[:, None, None])
        slope.scatter_add_(1, true, (smoothing - 1)[:, None, None].expand(lanes, 1, images))
    return losses, slope.div_(images)
