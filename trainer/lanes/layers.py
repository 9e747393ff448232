"""The layers of heads for many lanes at once, forward and backward by hand.

Activations are [L, D, P, B]: lanes, channels, places, images. What belongs to a lane lies together, and the images, which all
operations treat alike, lie innermost. A layer keeps what its backward pass needs until that was called.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.lanes.buffer import Buffer
from trainer.lanes.noise import Noise, bounds, threshold

OWN_BYTES = 4 * 2**20  # of inputs that lanes with dropouts of their own do not share; more would leave the processor's cache


@dataclass(frozen=True, slots=True, eq=False)
class Parameter:
    """One tensor of every lane [L, ...] and its gradient."""

    value: Tensor
    gradient: Tensor

    def of(self, first: int, last: int) -> "Parameter":
        """That of lanes `first` to `last`, the latter excluded; a view."""
        return Parameter(self.value[first:last], self.gradient[first:last])


class LaneLayer(Protocol):
    """Behind the first layer: every lane has activations of its own."""

    def forward(self, given: Tensor, noise: Noise | None) -> Tensor:
        """[L, D, P, B] → [L, E, Q, B]; without noise in evaluation mode."""
        ...

    def backward(self, slope: Tensor) -> Tensor:
        """The loss's gradient by the output → by the input. Writes those of the parameters."""
        ...


@dataclass(frozen=True, slots=True)
class Piece:
    """Lanes in a row that share one input, or (`rates` of several values) are multiplied in one go, each with its own."""

    first: int
    last: int
    rates: tuple[float, ...]


def pieces(rates: Sequence[float], bytes_per_lane: int) -> list[Piece]:
    """Lanes in a row with equal dropout together; between them those that have no equal neighbour, as many as fit in OWN_BYTES."""
    runs = list[Piece]()
    for lane, rate in enumerate(rates):
        if runs and runs[-1].rates == (rate,):
            runs[-1] = Piece(runs[-1].first, lane + 1, (rate,))
        else:
            runs.append(Piece(lane, lane + 1, (rate,)))
    joined, room = list[Piece](), max(1, OWN_BYTES // bytes_per_lane)
    for run in runs:
        single = run.last - run.first == 1 and run.rates != (0.0,)
        before = joined[-1] if joined else None
        if single and before and len(before.rates) == before.last - before.first < room and before.rates != (0.0,):
            joined[-1] = Piece(before.first, run.last, before.rates + run.rates)
        else:
            joined.append(run)
    return joined


class SharedLinear:
    """The first layer where all lanes read the same input: one matrix product for all lanes that drop the same of it."""

    def __init__(self, weight: Parameter, bias: Parameter, rates: Sequence[float], *, half: bool) -> None:
        self._weight, self._bias, self._rates, self._half = weight, bias, tuple(rates), half
        self._pieces, self._pieces_for = list[Piece](), 0
        self._read = list[tuple[Piece, Tensor, Tensor | float]]()
        self._found, self._masked = Buffer(), defaultdict[object, Buffer](Buffer)

    def forward(self, rows: Tensor, places: int, noise: Noise | None) -> Tensor:
        """Rows [P * B, D] that all lanes share → [L, E, P, B]."""
        weight, bias = self._weight.value.flatten(2), self._bias.value
        found = self._found.of((len(bias), bias.shape[1], len(rows)), rows)
        self._read = self._inputs(rows, noise)
        for piece, given, scale in self._read:
            some = slice(piece.first, piece.last)
            if isinstance(scale, float):
                _affine(bias[some].flatten(), weight[some].flatten(0, 1), given, scale, found[some].flatten(0, 1), half=self._half)
            else:
                _batched(weight[some] * scale, given.mT, found[some], half=self._half).add_(bias[some, :, None])
        return found.view(*found.shape[:2], places, -1)

    def backward(self, slope: Tensor) -> None:
        """[L, E, P, B]; nothing is asked of the input's gradient, since what gave it is frozen."""
        slope = slope.flatten(2)
        torch.sum(slope, 2, out=self._bias.gradient)
        gradient = self._weight.gradient.flatten(2)
        for piece, given, scale in self._read:
            some = slice(piece.first, piece.last)
            if isinstance(scale, float):
                _scaled(slope[some].flatten(0, 1), given, scale, gradient[some].flatten(0, 1), half=self._half)
            else:
                _batched(slope[some], given, gradient[some], half=self._half).mul_(scale)
        self._read = []

    def _inputs(self, rows: Tensor, noise: Noise | None) -> list[tuple[Piece, Tensor, Tensor | float]]:
        """What each piece reads, and what its products are multiplied by: [R, D] and a number, or [l, R, D] and [l, 1, 1]."""
        if noise is None or not any(self._rates):
            return [(Piece(0, len(self._rates), (0.0,)), rows, 1.0)]
        if self._pieces_for != rows.nbytes:
            self._pieces, self._pieces_for = pieces(self._rates, rows.nbytes), rows.nbytes
        field, masked = noise.field(rows.shape), {0.0: rows}
        read = list[tuple[Piece, Tensor, Tensor | float]]()
        for piece in self._pieces:
            if len(piece.rates) > 1:
                lowest, scales = bounds(piece.rates, 2, rows)
                into = self._masked[piece].of((len(piece.rates), *rows.shape), rows)
                read.append((piece, torch.mul(rows, field >= lowest, out=into), scales))
                continue
            (rate,) = piece.rates
            if rate not in masked:
                masked[rate] = torch.mul(rows, field >= threshold(rate), out=self._masked[rate].of(rows.shape, rows))
            read.append((piece, masked[rate], 1 / (1 - rate)))
        return read


class Scale:
    """The first layer where a LayerNorm's scale and shift comes first."""

    def __init__(self, weight: Parameter, bias: Parameter) -> None:
        self._weight, self._bias = weight, bias
        self._given = torch.empty(0)

    def forward(self, rows: Tensor, places: int, noise: Noise | None) -> Tensor:
        """Rows [P * B, D] that all lanes share → [L, D, P, B]."""
        self._given = rows.T.contiguous()
        scaled = torch.addcmul(self._bias.value[:, :, None], self._weight.value[:, :, None], self._given)
        return scaled.view(*scaled.shape[:2], places, -1)

    def backward(self, slope: Tensor) -> None:
        """[L, D, P, B]."""
        slope = slope.flatten(2)
        torch.sum(slope, 2, out=self._bias.gradient)
        torch.sum(slope * self._given, 2, out=self._weight.gradient)


class OwnLinear:
    """A linear layer on activations of the lanes' own."""

    def __init__(self, weight: Parameter, bias: Parameter, *, half: bool) -> None:
        self._weight, self._bias, self._half = weight, bias, half
        self._given = torch.empty(0)

    def forward(self, given: Tensor, noise: Noise | None) -> Tensor:
        places, weight, bias = given.shape[2:], self._weight.value.flatten(2), self._bias.value
        self._given = given.flatten(2)
        found = given.new_empty((*bias.shape, self._given.shape[2]))
        return _batched(weight, self._given, found, half=self._half).add_(bias[:, :, None]).view(*found.shape[:2], *places)

    def backward(self, slope: Tensor) -> Tensor:
        places, slope, weight = slope.shape[2:], slope.flatten(2), self._weight.value.flatten(2)
        torch.sum(slope, 2, out=self._bias.gradient)
        _batched(slope, self._given.mT, self._weight.gradient.flatten(2), half=self._half)
        found = torch.empty_like(self._given)
        return _batched(weight.mT, slope, found, half=self._half).view(*found.shape[:2], *places)


class OwnDropout:
    """Dropout of activations of the lanes' own; what is drawn is common to the lanes, what it has to exceed is not."""

    def __init__(self, rates: Sequence[float]) -> None:
        self._rates = tuple(rates)
        self._mask: Tensor | None = None

    def forward(self, given: Tensor, noise: Noise | None) -> Tensor:
        self._mask = None
        if noise is None or not any(self._rates):
            return given
        lowest, scales = bounds(self._rates, 3, given)
        self._mask = (noise.field(given.shape[1:]) >= lowest) * scales
        return given * self._mask

    def backward(self, slope: Tensor) -> Tensor:
        return slope if self._mask is None else slope * self._mask


class OwnMean:
    """The mean over the places."""

    def __init__(self) -> None:
        self._places = 1

    def forward(self, given: Tensor, noise: Noise | None) -> Tensor:
        self._places = given.shape[2]
        return given.mean(2, keepdim=True)

    def backward(self, slope: Tensor) -> Tensor:
        return (slope / self._places).expand(-1, -1, self._places, -1)


class OwnActivation:
    """A function of each number."""

    def __init__(self, module: nn.Module) -> None:
        self._function, self._derivative = _derivatives(module)
        self._given = self._found = torch.empty(0)

    def forward(self, given: Tensor, noise: Noise | None) -> Tensor:
        self._given, self._found = given, self._function(given)
        return self._found

    def backward(self, slope: Tensor) -> Tensor:
        return self._derivative(slope, self._given, self._found)


def _derivatives(module: nn.Module) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor, Tensor], Tensor]]:
    """The function, and the gradient by its input from that by its output, its input and its output."""
    ops = torch.ops.aten
    match module:
        case nn.ReLU():
            return torch.relu_, lambda slope, given, found: ops.threshold_backward.grad_input(slope, found, 0, grad_input=found)  # in place
        case nn.Hardswish():
            return F.hardswish, lambda slope, given, found: ops.hardswish_backward(slope, given)
        case nn.GELU():
            how = module.approximate
            return (lambda given: F.gelu(given, approximate=how)), (
                lambda slope, given, found: ops.gelu_backward(slope, given, approximate=how)
            )
        case nn.Tanh():
            return torch.tanh, lambda slope, given, found: ops.tanh_backward(slope, found)
        case _:
            raise TypeError(f"{type(module).__name__} is not written for lanes")


def _affine(bias: Tensor, weight: Tensor, rows: Tensor, scale: float, out: Tensor, *, half: bool) -> None:
    """out = bias + scale * weight @ rows.T"""
    if half:
        out.copy_(torch.mm(weight.bfloat16(), rows.bfloat16().T)).mul_(scale).add_(bias[:, None])
    else:
        torch.addmm(bias[:, None], weight, rows.T, alpha=scale, out=out)


def _scaled(slope: Tensor, rows: Tensor, scale: float, out: Tensor, *, half: bool) -> None:
    """out = scale * slope @ rows"""
    if half:
        out.copy_(torch.mm(slope.bfloat16(), rows.bfloat16())).mul_(scale)
    else:
        torch.addmm(out, slope, rows, beta=0, alpha=scale, out=out)  # beta 0: what is in `out` plays no part, not even NaN


def _batched(first: Tensor, second: Tensor, out: Tensor, *, half: bool) -> Tensor:
    """out = first @ second, lane by lane."""
    if half:
        return out.copy_(torch.bmm(first.bfloat16(), second.bfloat16()))
    return torch.bmm(first, second, out=out)
