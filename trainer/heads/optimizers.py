"""torch's optimizers for heads trained together, each member with its own learning rate, weight decay and momentum."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, groupby
from typing import Any, Protocol, assert_never

import torch
from torch import Tensor, nn

from trainer.configuration import Hyperparameters
from trainer.heads.joint import padded
from trainer.heads.layers import MemberParameter
from trainer.optimization import ALPHA, EPS, MOMENTS, Coefficients, OptimizerKind, ParameterGroup, make_optimizer

OptimizerSort = tuple[OptimizerKind, tuple[float, float]]


def sort_of(config: Hyperparameters) -> OptimizerSort:
    """The optimizer's kind and betas. Members of equal sort are stepped together: torch's fused Adam kernel takes one pair of betas."""
    coefficients = Coefficients.of(config)
    return coefficients.kind, coefficients.betas


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """The moments of consecutive members of one optimizer: by moment, a tensor [M, N] for each parameter."""

    members: slice
    moments: Mapping[str, Sequence[Tensor]]


def state_of(place: int, states: Iterable[State]) -> State:
    """The state that has the member at `place`."""
    return next(state for state in states if state.members.start <= place < state.members.stop)


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """The optimizer state of all members after `done` steps."""

    configs: tuple[Hyperparameters, ...]
    shapes: Mapping[str, torch.Size]  # of a member's parameters, by their names in the network
    done: int
    states: tuple[State, ...]

    def copied(self) -> "Moments":
        """A deep copy, which later steps do not change."""
        copies = (replace(one, moments={name: [own.clone() for own in of] for name, of in one.moments.items()}) for one in self.states)
        return replace(self, states=tuple(copies))

    def of(self, place: int) -> dict[str, list[Tensor]]:
        """The moments of the member at `place`: by moment, a tensor [N] for each parameter."""
        found = state_of(place, self.states)
        return {name: [tensor[place - found.members.start] for tensor in of] for name, of in found.moments.items()}

    def exported(self, place: int, order: Sequence[str]) -> dict[str, Any]:
        """A member's moments as the state dict of torch's optimizer over parameters in `order`, on the host.

        So a checkpoint has the same form whether its run was trained alone or in an ensemble, and either can resume from it.
        """
        config, own, names = self.configs[place], self.of(place), list(self.shapes)
        blank = [nn.Parameter(torch.empty(self.shapes[name], device="meta")) for name in order]  # shapes without memory
        found: dict[str, Any] = {**make_optimizer([ParameterGroup(blank)], config).state_dict(), "state": {}}
        for index, name in enumerate(order if self.done else ()):
            at, shape = names.index(name), self.shapes[name]
            state = {moment: own[moment][at].view(shape).to("cpu", copy=True) for moment in Coefficients.of(config).moments}
            if config.optimizer != "sgd":
                state["step"] = torch.tensor(float(self.done))
            if state:
                found["state"][index] = state
        return found


class OptimizerGroup(Protocol):
    """Members whose update is computed together."""

    @property
    def states(self) -> "Sequence[State]":
        """The members' moments."""

    @property
    def tensors(self) -> Sequence[Tensor]:
        """The tensors of which the moments are views."""

    def begin(self, rates: Tensor, done: int) -> None:
        """Start a round after `done` steps, with learning rates [steps, M] of all members."""

    def advance(self, number: int, done: int, *, in_place: bool) -> None:
        """Select the coefficients of step `number` of the round, from 0, which is step `done` of all, from 1.

        With `in_place` they are copied to memory that `update` always reads, so that it can be captured in a graph.
        """

    def update(self) -> None:
        """Update the parameters from their gradients."""


class Optimizers:
    """One optimizer for each member. Members of equal sort should be consecutive, so that they are stepped together."""

    def __init__(
        self, configs: Sequence[Hyperparameters], parameters: Mapping[str, MemberParameter], flat: MemberParameter | None = None
    ) -> None:
        """`flat` is the tensor of which `parameters` are views, if they are computed jointly."""
        self.done = 0  # steps
        self._configs, self._parameters = tuple(configs), dict(parameters)
        self._groups = list[OptimizerGroup]()
        coefficients = [Coefficients.of(config) for config in configs]
        if flat is not None:
            self._groups.append(JointGroup(coefficients, flat, [parameter.value[0].numel() for parameter in parameters.values()]))
        else:
            for _, some in groupby(range(len(configs)), lambda place: sort_of(configs[place])):
                places = list(some)
                first, last = places[0], places[-1] + 1
                own = [parameter.of(first, last) for parameter in parameters.values()]
                self._groups.append(_Group(first, coefficients[first:last], own))
        self._states = [state for group in self._groups for state in group.states]

    def begin(self, rates: Tensor) -> None:
        """Start a round of steps with learning rates [steps, M]."""
        for group in self._groups:
            group.begin(rates, self.done)

    def step(self, number: int) -> None:
        """Update all parameters from their gradients, which are overwritten; `number` counts the steps of the round, from 0."""
        self.advance(number)
        self.update()

    def advance(self, number: int, *, in_place: bool = False) -> None:
        """Count a step, and select its coefficients for `update`; `in_place` as in OptimizerGroup."""
        self.done += 1
        for group in self._groups:
            group.advance(number, self.done, in_place=in_place)

    def update(self) -> None:
        """The work of a step on the device."""
        for group in self._groups:
            group.update()

    @property
    def tensors(self) -> list[Tensor]:
        """The moments, each tensor once. A step changes them in place."""
        return [tensor for group in self._groups for tensor in group.tensors]

    def kept(self, places: Sequence[int], parameters: Mapping[str, MemberParameter], flat: MemberParameter | None = None) -> "Optimizers":
        """Optimizers of the members at `places` over `parameters`, with copies of their moments."""
        found = Optimizers([self._configs[place] for place in places], parameters, flat)
        found.done, moments = self.done, self.moments
        for place, before in enumerate(places):
            found._set(place, moments.of(before))
        return found

    @property
    def moments(self) -> Moments:
        """Views of the current moments; the next step changes them."""
        shapes = {name: parameter.value.shape[1:] for name, parameter in self._parameters.items()}
        return Moments(self._configs, shapes, self.done, tuple(self._states))

    def load(self, place: int, state: Mapping[str, Any], order: Sequence[str], done: int) -> None:
        """Load torch's state dict for the member at `place`. All members must have done the same number of steps."""
        self.done = done
        moments = Coefficients.of(self._configs[place]).moments
        self._set(place, {name: [state["state"][order.index(own)][name].flatten() for own in self._parameters] for name in moments})

    def _set(self, place: int, moments: Mapping[str, Sequence[Tensor]]) -> None:
        state = state_of(place, self._states)
        for name, tensors in moments.items():
            for into, tensor in zip(state.moments[name], tensors, strict=True):
                into[place - state.members.start].copy_(tensor)


class _Group:
    """Consecutive members of equal sort. Values, gradients and moments are [M, N], coefficients [M, 1]."""

    def __init__(self, first: int, coefficients: Sequence[Coefficients], parameters: Sequence[MemberParameter]) -> None:
        self._members = slice(first, first + len(coefficients))
        self._kind, self._betas = coefficients[0].kind, coefficients[0].betas
        self._values = [parameter.value.flatten(1) for parameter in parameters]
        self._gradients = [parameter.gradient.flatten(1) for parameter in parameters]
        self._moments = {name: [torch.zeros_like(value) for value in self._values] for name in MOMENTS[self._kind]}
        self.states = (State(self._members, self._moments),)
        like = self._values[0]
        self._rates, self._lr, self._done = torch.empty(0), torch.empty(0), 0
        self._momentum = like.new_tensor([own.momentum for own in coefficients])[:, None]
        self._decay = like.new_tensor([own.weight_decay for own in coefficients])[:, None]
        self._decays, self._has_momentum = bool(self._decay.any()), bool(self._momentum.any())
        if self._kind in ("adam", "adamw"):
            self._moves = [torch.zeros_like(value) for value in self._values]
            self._steps = [torch.zeros((), device=like.device) for _ in self._values]

    def begin(self, rates: Tensor, done: int) -> None:
        self._rates = rates[:, self._members, None].to(self._values[0])

    @property
    def tensors(self) -> list[Tensor]:
        return [tensor for tensors in self._moments.values() for tensor in tensors]

    def advance(self, number: int, done: int, *, in_place: bool) -> None:
        if in_place:
            raise NotImplementedError("on a CPU, where these members are computed, there are no graphs")
        self._lr, self._done = self._rates[number], done

    def update(self) -> None:
        lr = self._lr  # [M, 1]
        # Weight decay as an L2 penalty, in torch's order: g += decay * value, before the moments. AdamW decouples it (`_step_adam`).
        if self._decays and self._kind != "adamw":
            for value, gradient in zip(self._values, self._gradients, strict=True):
                gradient.addcmul_(value, self._decay)
        match self._kind:
            case "sgd":
                self._step_sgd(lr)
            case "adam" | "adamw":
                self._step_adam(lr, self._done)
            case "rmsprop":
                self._step_rmsprop(lr)
            case _:
                assert_never(self._kind)

    def _step_sgd(self, lr: Tensor) -> None:
        # b ← μ b + g; value ← value - lr b. In the first step b is 0, so b = g, as torch initialises it.
        for value, gradient, momentum in zip(self._values, self._gradients, self._moments["momentum_buffer"], strict=True):
            if self._has_momentum:
                gradient = momentum.mul_(self._momentum).add_(gradient)
            value.addcmul_(gradient, lr, value=-1)

    def _step_adam(self, lr: Tensor, done: int) -> None:
        """Adam and AdamW by torch's fused kernel, which reads and writes memory once; single operations would take seven passes.

        The kernel takes one learning rate, but each member has its own. AdamW's update of a value v is
            v ← (1 - lr decay) v - lr a,   a = m̂ / (√v̂ + eps)
        and a does not depend on lr or v. With lr = 1 and decay = 1 the kernel therefore sets v ← 0 · v - a = -a, whatever v was. It
        runs on `_moves` in place of the values; each member then adds lr times its move, -lr a, to its own decayed values.
        """
        for step in self._steps:
            step.fill_(done)
        torch._fused_adamw_(
            self._moves, self._gradients, self._moments["exp_avg"], self._moments["exp_avg_sq"], [], self._steps,
            lr=1.0, beta1=self._betas[0], beta2=self._betas[1], weight_decay=1.0, eps=EPS, amsgrad=False, maximize=False,
        )  # fmt: skip
        left = 1 - lr * self._decay if self._decays and self._kind == "adamw" else None  # [M, 1]
        for value, move in zip(self._values, self._moves, strict=True):
            if left is not None:
                value.mul_(left)
            value.addcmul_(move, lr)

    def _step_rmsprop(self, lr: Tensor) -> None:
        # s ← ALPHA s + (1 - ALPHA) g²; g ← g / (√s + EPS); then as SGD with momentum.
        for value, gradient, square, momentum in zip(
            self._values, self._gradients, self._moments["square_avg"], self._moments["momentum_buffer"], strict=True
        ):
            square.mul_(ALPHA).addcmul_(gradient, gradient, value=1 - ALPHA)
            gradient.div_(square.sqrt().add_(EPS))
            if self._has_momentum:
                gradient = momentum.mul_(self._momentum).add_(gradient)
            value.addcmul_(gradient, lr, value=-1)


class JointGroup:
    """All members in at most nine operations, whatever their optimizers, betas and rates are.

    One formula serves the four optimizers. Values v, gradients g and moments are [M, N], coefficients [M, 1]. `first` b is the buffer of
    momentum or Adam's mean of gradients, `square` s the mean of squares.
        g += penalty v
        s += (1 - β) (g² - s)
        b = memory b + g / d₁
        v = left v + b / d₂
    Each divisor d is shift + gain √s:
                  memory      d₁              d₂
        sgd       momentum    1               -1 / lr
        rmsprop   momentum    EPS + √s        -1 / lr                             β = ALPHA
        Adam      β₁          1 / (1 - β₁)    -(c₁ / lr) (EPS + √s / √c₂)         β = β₂; bias corrections cᵢ = 1 - βᵢᵗ of step t
    The coefficients of all steps of a round are computed at its start, so no step copies anything from the host. A gradient whose square
    overflows makes a member diverge at once.
    """

    def __init__(self, coefficients: Sequence[Coefficients], flat: MemberParameter, sizes: Sequence[int]) -> None:
        """`sizes` are the numbers of a member's values in each parameter."""
        self._value, self._gradient, self._first = flat.value, flat.gradient, torch.zeros_like(flat.value)
        kinds = [own.kind for own in coefficients]
        self._has_squares = any(kind != "sgd" for kind in kinds)
        self._square = torch.zeros_like(flat.value if self._has_squares else flat.value[:, :0])
        self._root, self._divisors = torch.empty_like(self._square), self._square.new_empty((2, *self._square.shape))

        def column(numbers: Iterable[float]) -> Tensor:
            return torch.tensor(list(numbers), dtype=torch.float64)[:, None]  # on the host

        adams = [kind in ("adam", "adamw") for kind in kinds]
        self._betas = [column(own.betas[index] for own in coefficients) for index in (0, 1)]
        self._is_adam, self._is_rmsprop = column(adams).bool(), column(kind == "rmsprop" for kind in kinds).bool()
        self._decay = column(own.weight_decay if own.kind == "adamw" else 0.0 for own in coefficients)
        penalty = column(own.weight_decay if own.kind != "adamw" else 0.0 for own in coefficients)
        self._has_penalty, self._has_decay = bool(penalty.any()), bool(self._decay.any())
        self._penalty = penalty.to(flat.value)
        self._memory = torch.where(self._is_adam, self._betas[0], column(own.momentum for own in coefficients)).to(flat.value)
        self._new_square = (1 - torch.where(self._is_rmsprop, ALPHA, self._betas[1])).to(flat.value)
        self._round = torch.empty(0)  # coefficients of its steps [steps, 5, M, 1]
        self._now = flat.value.new_empty((5, len(coefficients), 1))  # of the current step
        self.states = [
            _state(kind, [place for place, _ in some], self._first, self._square, sizes)
            for kind, some in groupby(enumerate(kinds), lambda own: own[1])
        ]

    def begin(self, rates: Tensor, done: int) -> None:
        lr = rates.to("cpu", torch.float64)[:, :, None]  # [steps, M, 1]
        numbers = torch.arange(done + 1, done + 1 + len(lr), dtype=torch.float64)[:, None, None]
        inverse = -1 / lr.clamp(min=1e-30)  # a rate of 0 makes the divisor so large that the update does not matter, but not infinite
        first, second = (1 - betas**numbers for betas in self._betas)
        nothing, one = torch.zeros_like(lr), torch.ones_like(lr)
        shift_of_first = torch.where(self._is_rmsprop, EPS, 1 / (1 - self._betas[0])).expand_as(lr)  # sgd's betas are 0
        shift_of_value = torch.where(self._is_adam, inverse * first * EPS, inverse)
        gain_of_first = torch.where(self._is_rmsprop, one, nothing)
        gain_of_value = torch.where(self._is_adam, inverse * first / second.sqrt(), nothing)
        columns = (shift_of_first, shift_of_value, gain_of_first, gain_of_value, 1 - lr * self._decay)
        self._round = torch.stack(columns, 1).to(self._value)  # the only copy of the round

    @property
    def tensors(self) -> list[Tensor]:
        return [self._first, self._square]

    def advance(self, number: int, done: int, *, in_place: bool) -> None:
        if in_place:
            self._now.copy_(self._round[number])
        else:
            self._now = self._round[number]

    def update(self) -> None:
        shifts, gains, left = torch.split(self._now, [2, 2, 1])  # [2, M, 1], [2, M, 1], [1, M, 1]
        if self._has_penalty:
            self._gradient.addcmul_(self._value, self._penalty)
        divisors = shifts
        if self._has_squares:
            torch.mul(self._gradient, self._gradient, out=self._root)
            self._square.lerp_(self._root, self._new_square)
            torch.sqrt(self._square, out=self._root)
            divisors = torch.addcmul(shifts, self._root, gains, out=self._divisors)
        of_first, of_value = divisors
        self._first.mul_(self._memory).addcdiv_(self._gradient, of_first)
        if self._has_decay:
            self._value.mul_(left[0])
        self._value.addcdiv_(self._first, of_value)


def _state(kind: OptimizerKind, places: Sequence[int], first: Tensor, square: Tensor, sizes: Sequence[int]) -> State:
    """Views of the moments of consecutive members of that kind, which are rows of the buffers [M, N]."""
    members = slice(places[0], places[-1] + 1)
    starts = accumulate((padded(size) for size in sizes), initial=0)
    columns = [slice(start, start + size) for start, size in zip(starts, sizes, strict=False)]
    buffers = {name: square if name in ("exp_avg_sq", "square_avg") else first for name in MOMENTS[kind]}
    return State(members, {name: [buffer[members, own] for own in columns] for name, buffer in buffers.items()})
