"""The work of all members in few operations, for devices on which a launch takes longer than the arithmetic of a member.

A GPU needs some 5 µs for each kernel that is launched, however small, and more for a copy from the host. So the parameters of all
members lie in one tensor, and dropout of different rates is one batched product. A CPU is faster with pieces that fit in its cache.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.heads.layers import MemberParameter, Noise, bounds, threshold


@dataclass(frozen=True, slots=True)
class Execution:
    """How the work of all members is divided into operations."""

    activation_bytes: int  # limit for the members computed at once; the others are computed after them, within the same step
    masked_bytes: int  # limit for the masked inputs in one batched product
    joint: bool  # few operations for all members


IN_CACHE = Execution(activation_bytes=256 * 2**20, masked_bytes=4 * 2**20, joint=False)
JOINT = Execution(activation_bytes=2**30, masked_bytes=2**30, joint=True)
ALIGNMENT = 16  # numbers; each parameter begins at a multiple of it, which fast matrix products require


def execution_on(device: torch.device) -> Execution:
    """The faster way on the device."""
    return IN_CACHE if device.type == "cpu" else JOINT


def padded(count: int) -> int:
    """The numbers that a parameter of `count` numbers takes in the common tensor."""
    return -(-count // ALIGNMENT) * ALIGNMENT


def flattened(values: Mapping[str, Tensor]) -> tuple[MemberParameter, dict[str, MemberParameter]]:
    """Copies of the parameters [M, ...] in one tensor [M, N], and views of each in it. Gaps between them are 0, like all gradients."""
    starts, end = dict[str, int](), 0
    for name, value in values.items():
        starts[name], end = end, end + padded(value[0].numel())
    first = next(iter(values.values()))
    flat = MemberParameter(first.new_zeros(len(first), end), first.new_zeros(len(first), end))
    views = dict[str, MemberParameter]()
    for name, value in values.items():
        columns = slice(starts[name], starts[name] + value[0].numel())
        views[name] = MemberParameter(*(tensor[:, columns].view(value.shape) for tensor in (flat.value, flat.gradient)))
        views[name].value.copy_(value)
    return flat, views


@dataclass(frozen=True, slots=True, eq=False)
class _Piece:
    """Members that are multiplied at once: their thresholds and scales of dropout [m, 1, 1]."""

    members: slice
    lowest: Tensor
    scales: Tensor


class JointLinear:
    """A linear first layer behind optional dropout: the function of `SharedLinear` in few operations.

    Members of one rate share the input, so that one product of [M * E, D] and [D, R] serves all. Of several rates, each member has its
    own masked input in a batched product. The scale is applied to the product, together with the bias.
    """

    def __init__(self, weight: MemberParameter, bias: MemberParameter, rates: Sequence[float], *, half: bool, masked_bytes: int) -> None:
        self._weight, self._bias, self._rates, self._half, self._most = weight, bias, tuple(rates), half, masked_bytes
        # Tensors of one number, not numbers: those would be multiplied in the dtype of the product.
        self._alike, self._unscaled = self._piece(0, len(rates), rates[:1]), bias.value.new_ones((1, 1, 1))
        self._pieces = dict[int, list[_Piece]]()  # by the largest number of members in a piece
        self._read = list[tuple[slice, Tensor, Tensor]]()  # inputs of the last forward pass, for the backward pass

    def forward(self, rows: Tensor, places: int, noise: Noise | None) -> Tensor:
        """Rows [P * B, D], shared → [M, E, P, B]."""
        weight, bias = self._narrow(self._weight.value.flatten(2)), self._bias.value[:, :, None]  # [M, E, D], [M, E, 1]
        self._read, found = self._inputs(self._narrow(rows), noise), list[Tensor]()
        for members, given, scale in self._read:
            if given.ndim == 2:
                product = torch.mm(weight.flatten(0, 1), given.T).view(*bias.shape[:2], -1)
            else:
                product = torch.bmm(weight[members], given.mT)
            found.append(torch.addcmul(bias[members], product, scale))
        outputs = found[0] if len(found) == 1 else torch.cat(found)
        return outputs.view(*outputs.shape[:2], places, -1)

    def backward(self, slope: Tensor) -> None:
        """Slope [M, E, P, B]. The input needs no gradient, since it is the output of frozen stages."""
        slope, gradient = slope.flatten(2), self._weight.gradient.flatten(2)  # [M, E, R], [M, E, D]
        torch.sum(slope, 2, out=self._bias.gradient)
        slope = self._narrow(slope)
        for members, given, scale in self._read:
            shared = given.ndim == 2
            product = torch.mm(slope.flatten(0, 1), given).view(gradient.shape) if shared else torch.bmm(slope[members], given)
            torch.mul(product, scale, out=gradient[members])
        self._read = []

    def _narrow(self, tensor: Tensor) -> Tensor:
        return tensor.bfloat16() if self._half else tensor

    def _inputs(self, rows: Tensor, noise: Noise | None) -> list[tuple[slice, Tensor, Tensor]]:
        """The masked input of each piece, [R, D] if its members share it and else [m, R, D], and its scale, [1, 1, 1] or [m, 1, 1]."""
        if noise is None or not any(self._rates):
            return [(self._alike.members, rows, self._unscaled)]
        field = noise.field(rows.shape)
        if len(set(self._rates)) == 1:
            return [(self._alike.members, rows * (field >= threshold(self._rates[0])), self._alike.scales)]
        most = min(len(self._rates), max(1, self._most // rows.nbytes))
        if most not in self._pieces:
            self._pieces[most] = [self._piece(first, most, self._rates[first : first + most]) for first in range(0, len(self._rates), most)]
        return [(piece.members, rows * (field >= piece.lowest), piece.scales) for piece in self._pieces[most]]

    def _piece(self, first: int, count: int, rates: Sequence[float]) -> _Piece:
        return _Piece(slice(first, first + count), *bounds(rates, 2, self._bias.value))
