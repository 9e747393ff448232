"""The layers of heads trained together, with hand-written forward and backward passes, and dropout.

Shapes: M members, D inputs, E outputs, P places (height times width, 1 behind a pool), B examples. Activations are [M, D, P, B]: the
examples lie last in memory, so one matrix product of [M * E, D] and [D, P * B] serves all members that share an input. `slope` is the
gradient of the loss by a layer's output, of the output's shape.

Why not autograd with torch.func.vmap: docs/decisions/0007-lanes.md.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEVELS = 2**16  # a dropout rate is rounded to 1 / 65,536; drawing 16 bits costs a quarter of drawing a float


class Noise:
    """Random numbers common to all members. Members of equal rate drop the same values; a higher rate drops these and more."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self.generator = torch.Generator(device).manual_seed(seed)

    def seed(self, seed: int) -> None:
        """Draw as a new one with that seed does."""
        self.generator.manual_seed(seed)

    def state(self) -> Tensor:
        """The generator's state, for `restore`."""
        return self.generator.get_state()

    def restore(self, state: Tensor) -> None:
        """Restore the state, so that the next draws repeat those made after `state()`."""
        self.generator.set_state(state)

    def field(self, shape: Sequence[int]) -> Tensor:
        """Uniform integers from -32768 to 32767: int16 of that shape."""
        count = torch.Size(shape).numel()
        quads = torch.empty(-(-count // 4), dtype=torch.int64, device=self.generator.device)  # four int16 each
        return quads.random_(-(2**63), None, generator=self.generator).view(torch.int16)[:count].view(*shape)


def bounds(rates: Sequence[float], ndim: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Thresholds int16 [M, 1, …] and scales [M, 1, …] in the dtype of `like`, with `ndim` dimensions of size 1.

    A draw below its member's threshold is dropped; the others are multiplied by 1 / (1 - rate), which keeps the mean.
    """
    shape = (len(rates), *(1,) * ndim)
    lowest = torch.tensor([threshold(rate) for rate in rates], dtype=torch.int16, device=like.device)
    scales = torch.tensor([1 / (1 - rate) for rate in rates], dtype=like.dtype, device=like.device)
    return lowest.view(shape), scales.view(shape)


def threshold(rate: float) -> int:
    """The int16 threshold of a dropout rate: draws below it are dropped."""
    return min(round(rate * LEVELS), LEVELS - 1) - LEVELS // 2


OWN_BYTES = 4 * 2**20  # of masked inputs in one batched product; more would not fit in the processor's cache


class Buffer:
    """Reused memory of one tensor. Page faults in newly allocated memory cost several times the arithmetic of a small layer."""

    def __init__(self) -> None:
        self._memory = torch.empty(0)

    def of(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """An uninitialised tensor of that shape with the dtype and device of `like`. It shares memory with the previous one."""
        count = torch.Size(shape).numel()
        if self._memory.numel() < count or self._memory.dtype != like.dtype or self._memory.device != like.device:
            self._memory = like.new_empty(count)
        return self._memory[:count].view(*shape)


@dataclass(frozen=True, slots=True, eq=False)
class MemberParameter:
    """One tensor of every member [M, ...] and its gradient."""

    value: Tensor
    gradient: Tensor

    def of(self, first: int, last: int) -> "MemberParameter":
        """A view of members `first` to `last`, the latter excluded."""
        return MemberParameter(self.value[first:last], self.gradient[first:last])


class MemberLayer(Protocol):
    """A layer behind the first one, where each member has activations of its own."""

    def forward(self, given: Tensor, noise: Noise | None) -> Tensor:
        """Activations [M, D, P, B] → [M, E, Q, B]. `noise` None means evaluation mode."""
        ...

    def backward(self, slope: Tensor) -> Tensor:
        """Gradient of the loss by the output → gradient by the input. Writes the gradients of the parameters."""
        ...


@dataclass(frozen=True, slots=True)
class Piece:
    """Consecutive members that are multiplied in one matrix product.

    With a single rate they share one input and the product is an ordinary one; with several rates each member has its own masked
    input and the product is a batched one.
    """

    first: int
    last: int  # excluded
    rates: tuple[float, ...]


def pieces(rates: Sequence[float], bytes_per_member: int) -> list[Piece]:
    """Group members: those of equal dropout in one piece each, single members of different dropout in pieces of at most OWN_BYTES.

    Few large products are faster than many small ones. Members arrive sorted by rate (`HeadEnsemble.of`), so that equal rates are adjacent.
    """
    runs = list[Piece]()
    for member, rate in enumerate(rates):
        if runs and runs[-1].rates == (rate,):
            runs[-1] = Piece(runs[-1].first, member + 1, (rate,))
        else:
            runs.append(Piece(member, member + 1, (rate,)))
    joined, most = list[Piece](), max(1, OWN_BYTES // bytes_per_member)
    for run in runs:
        single = run.last - run.first == 1 and run.rates != (0.0,)
        before = joined[-1] if joined else None
        if single and before and len(before.rates) == before.last - before.first < most and before.rates != (0.0,):
            joined[-1] = Piece(before.first, run.last, before.rates + run.rates)
        else:
            joined.append(run)
    return joined


class SharedLinear:
    """A linear first layer, optionally behind dropout. All members share the input: one matrix product for members of equal dropout.

    Forward, for a member with weight W [E, D], bias b [E] and dropout mask m, scale s = 1 / (1 - rate), over rows x [R, D]:
        y = b + W · (s m ∘ x)ᵀ = b + s W · (m ∘ x)ᵀ            [E, R]
    Backward, with slope g = ∂loss/∂y [E, R]:
        ∂loss/∂b = Σ_r g                                       [E]
        ∂loss/∂W = g · (s m ∘ x) = s g · (m ∘ x)               [E, D]
    The scale is applied to the product, not to the input, so that members with equal masks share one masked input.
    """

    def __init__(self, weight: MemberParameter, bias: MemberParameter, rates: Sequence[float], *, half: bool) -> None:
        self._weight, self._bias, self._rates, self._half = weight, bias, tuple(rates), half
        self._pieces, self._pieces_for = list[Piece](), 0
        self._read = list[tuple[Piece, Tensor, Tensor | float]]()  # inputs of the last forward pass, for the backward pass
        self._found, self._masked = Buffer(), defaultdict[object, Buffer](Buffer)
        self._bounds = dict[Piece, tuple[Tensor, Tensor]]()

    def forward(self, rows: Tensor, places: int, noise: Noise | None) -> Tensor:
        """Rows [P * B, D], shared → [M, E, P, B]."""
        weight, bias = self._weight.value.flatten(2), self._bias.value  # [M, E, D] also of a 1x1 convolution, [M, E]
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
        """Slope [M, E, P, B]. The input needs no gradient, since it is the output of frozen stages."""
        slope = slope.flatten(2)  # [M, E, R]
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
        """The masked input of each piece and its scale: [R, D] and a number, or [m, R, D] and [m, 1, 1]."""
        if noise is None or not any(self._rates):
            return [(Piece(0, len(self._rates), (0.0,)), rows, 1.0)]
        if self._pieces_for != rows.nbytes:
            self._pieces, self._pieces_for = pieces(self._rates, rows.nbytes), rows.nbytes
        field, masked = noise.field(rows.shape), {0.0: rows}  # one draw for all members; masked inputs by rate
        read = list[tuple[Piece, Tensor, Tensor | float]]()
        for piece in self._pieces:
            if len(piece.rates) > 1:
                if piece not in self._bounds:
                    self._bounds[piece] = bounds(piece.rates, 2, rows)
                lowest, scales = self._bounds[piece]
                into = self._masked[piece].of((len(piece.rates), *rows.shape), rows)
                read.append((piece, torch.mul(rows, field >= lowest, out=into), scales))
                continue
            (rate,) = piece.rates
            if rate not in masked:
                masked[rate] = torch.mul(rows, field >= threshold(rate), out=self._masked[rate].of(rows.shape, rows))
            read.append((piece, masked[rate], 1 / (1 - rate)))
        return read


class MemberLinear:
    """A linear layer on each member's own activations: y = b + W x, with x [D, R] and R = P * B.

    Backward, with slope g [E, R]: ∂loss/∂b = Σ_r g, ∂loss/∂W = g xᵀ, ∂loss/∂x = Wᵀ g.
    """

    def __init__(self, weight: MemberParameter, bias: MemberParameter, *, half: bool) -> None:
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


class MemberDropout:
    """Dropout of each member's own activations: y = s m ∘ x, so ∂loss/∂x = s m ∘ g.

    The draws are common to all members, the thresholds are each member's own.
    """

    def __init__(self, rates: Sequence[float]) -> None:
        self._rates = tuple(rates)
        self._bounds: tuple[Tensor, Tensor] | None = None
        self._mask: Tensor | None = None

    def forward(self, given: Tensor, noise: Noise | None) -> Tensor:
        self._mask = None
        if noise is None or not any(self._rates):
            return given
        if self._bounds is None:
            self._bounds = bounds(self._rates, 3, given)
        lowest, scales = self._bounds
        self._mask = (noise.field(given.shape[1:]) >= lowest) * scales  # [M, D, P, B]; 0 or the member's scale
        return given * self._mask

    def backward(self, slope: Tensor) -> Tensor:
        return slope if self._mask is None else slope * self._mask


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


class MemberMean:
    """The mean over the places. Each of P places gets 1 / P of the slope."""

    def __init__(self) -> None:
        self._places = 1

    def forward(self, given: Tensor, noise: Noise | None) -> Tensor:
        self._places = given.shape[2]
        return given.mean(2, keepdim=True)

    def backward(self, slope: Tensor) -> Tensor:
        return (slope / self._places).expand(-1, -1, self._places, -1)


class MemberActivation:
    """An elementwise function f: y = f(x), so ∂loss/∂x = g ∘ f'(x). torch's own backward kernels compute the product."""

    def __init__(self, module: nn.Module) -> None:
        self._function, self._derivative = _derivatives(module)
        self._given = self._found = torch.empty(0)

    def forward(self, given: Tensor, noise: Noise | None) -> Tensor:
        self._given, self._found = given, self._function(given)
        return self._found

    def backward(self, slope: Tensor) -> Tensor:
        return self._derivative(slope, self._given, self._found)


def _derivatives(module: nn.Module) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor, Tensor], Tensor]]:
    """The function, and its backward: (gradient by the output, input, output) → gradient by the input."""
    ops = torch.ops.aten
    match module:
        # ReLU runs in place in both directions. Its derivative is 1 where the output is positive, so the input is not needed.
        case nn.ReLU():
            return torch.relu_, lambda slope, given, found: ops.threshold_backward.grad_input(slope, found, 0, grad_input=found)
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
            raise TypeError(f"{type(module).__name__} has no hand-written gradient")


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
        torch.addmm(out, slope, rows, beta=0, alpha=scale, out=out)  # with beta 0 `out` is not read, so a NaN in it is overwritten


def _batched(first: Tensor, second: Tensor, out: Tensor, *, half: bool) -> Tensor:
    """out = first @ second, member by member."""
    if half:
        return out.copy_(torch.bmm(first.bfloat16(), second.bfloat16()))
    return torch.bmm(first, second, out=out)
