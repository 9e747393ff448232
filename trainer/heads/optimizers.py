"""torch's optimizers for heads trained together, each member with its own learning rate, weight decay and momentum."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, groupby, pairwise
from typing import Any, Protocol, assert_never

import torch
from torch import Tensor, nn

from trainer.configuration import Hyperparameters
from trainer.heads.joint import Execution, padded
from trainer.heads.layers import MemberParameter
from trainer.optimization import ALPHA, EPS, MOMENTS, Coefficients, OptimizerKind, ParameterGroup, make_optimizer

OptimizerSort = tuple[OptimizerKind, tuple[float, float]]


JOINT_ORDER: tuple[OptimizerKind, ...] = ("sgd", "rmsprop", "adam", "adamw")
"""The order of members in `JointGroup`: those that share an operation are adjacent."""


def sort_of(config: Hyperparameters) -> OptimizerSort:
    """The optimizer's kind and betas. Members of equal sort are stepped together: torch's fused Adam kernel takes one pair of betas."""
    coefficients = Coefficients.of(config)
    return coefficients.kind, coefficients.betas


def order_of(execution: Execution) -> Callable[[Hyperparameters], Any]:
    """The key by which members must be sorted."""
    return (lambda config: JOINT_ORDER.index(config.optimizer)) if execution.joint else sort_of


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """The optimizer state of all members after `done` steps."""

    configs: tuple[Hyperparameters, ...]
    shapes: Mapping[str, torch.Size]  # of a member's parameters, by their names in the network
    done: int
    groups: tuple[tuple[slice, Mapping[str, Sequence[Tensor]]], ...]  # members; by moment, a tensor [M, N] for each parameter

    def copied(self) -> "Moments":
        """A deep copy, which later steps do not change."""
        groups = tuple((members, {name: [tensor.clone() for tensor in of] for name, of in found.items()}) for members, found in self.groups)
        return replace(self, groups=groups)

    def of(self, place: int) -> dict[str, list[Tensor]]:
        """The moments of the member at `place`: by moment, a tensor [N] for each parameter."""
        members, found = next(group for group in self.groups if group[0].start <= place < group[0].stop)
        return {name: [tensor[place - members.start] for tensor in of] for name, of in found.items()}

    def exported(self, place: int, order: Sequence[str]) -> dict[str, Any]:
        """A member's moments as the state dict of torch's optimizer over parameters in `order`, on the host.

        So a checkpoint has the same form whether its run was trained alone or in an ensemble, and either can resume from it.
        """
        config, own, names = self.configs[place], self.of(place), list(self.shapes)
        blank = [nn.Parameter(torch.empty(self.shapes[name], device="meta")) for name in order]  # shapes without memory
        found: dict[str, Any] = make_optimizer([ParameterGroup(blank)], config).state_dict()
        for index, name in enumerate(order if self.done else ()):
            at, shape = names.index(name), self.shapes[name]
            state = {moment: own[moment][at].view(shape).to("cpu", copy=True) for moment in Coefficients.of(config).moments}
            if config.optimizer != "sgd":
                state["step"] = torch.tensor(float(self.done))
            if state:
                found["state"][index] = state
        return found


class Group(Protocol):
    """Members whose update is computed together."""

    @property
    def states(self) -> "Sequence[State]":
        """The members' moments."""

    def begin(self, rates: Tensor, done: int) -> None:
        """Start a round after `done` steps, with learning rates [steps, M] of the group's members."""

    def step(self, number: int, done: int) -> None:
        """Step `number` of the round, from 0, which is step `done` of all, from 1."""


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """The moments of consecutive members of one optimizer: by moment, a tensor [M, N] for each parameter."""

    members: slice
    moments: Mapping[str, Sequence[Tensor]]


class Optimizers:
    """One optimizer for each member. Members should be sorted by `order_of`, so that they are stepped together."""

    def __init__(
        self, configs: Sequence[Hyperparameters], parameters: Mapping[str, MemberParameter], flat: MemberParameter | None = None
    ) -> None:
        """`flat` is the tensor of which `parameters` are views, if they are computed jointly."""
        self.done = 0  # steps
        self._configs, self._parameters = tuple(configs), dict(parameters)
        self._groups = list[Group]()
        coefficients = [Coefficients.of(config) for config in configs]
        if flat is not None:
            self._groups.append(JointGroup(coefficients, flat, [parameter.value[0].numel() for parameter in parameters.values()]))
        else:
            for _, some in groupby(range(len(configs)), lambda place: sort_of(configs[place])):
                first, *_, last = (places := list(some))[:1] + places[-1:]
                own = [parameter.of(first, last + 1) for parameter in parameters.values()]
                self._groups.append(_Group(first, coefficients[first : last + 1], own))
        self._states = [state for group in self._groups for state in group.states]

    def begin(self, rates: Tensor) -> None:
        """Start a round of steps with learning rates [steps, M]."""
        for group in self._groups:
            group.begin(rates, self.done)

    def step(self, number: int) -> None:
        """Update all parameters from their gradients, which are overwritten; `number` counts the steps of the round, from 0."""
        self.done += 1
        for group in self._groups:
            group.step(number, self.done)

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
        return Moments(self._configs, shapes, self.done, tuple((state.members, state.moments) for state in self._states))

    def load(self, place: int, state: Mapping[str, Any], order: Sequence[str], done: int) -> None:
        """Load torch's state dict for the member at `place`. All members must have done the same number of steps."""
        self.done = done
        moments = Coefficients.of(self._configs[place]).moments
        self._set(place, {name: [state["state"][order.index(own)][name].flatten() for own in self._parameters] for name in moments})

    def _set(self, place: int, moments: Mapping[str, Sequence[Tensor]]) -> None:
        state = next(state for state in self._states if state.members.start <= place < state.members.stop)
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
        self._rates = torch.empty(0)
        self._momentum = like.new_tensor([own.momentum for own in coefficients])[:, None]
        self._decay = like.new_tensor([own.weight_decay for own in coefficients])[:, None]
        self._decays, self._has_momentum = bool(self._decay.any()), bool(self._momentum.any())
        if self._kind in ("adam", "adamw"):
            self._moves = [torch.zeros_like(value) for value in self._values]
            self._steps = [torch.zeros((), device=like.device) for _ in self._values]

    def begin(self, rates: Tensor, done: int) -> None:
        self._rates = rates[:, self._members, None].to(self._values[0])

    def step(self, number: int, done: int) -> None:
        lr = self._rates[number]  # [M, 1]
        # Weight decay as an L2 penalty, in torch's order: g += decay * value, before the moments. AdamW decouples it (`_step_adam`).
        if self._decays and self._kind != "adamw":
            for value, gradient in zip(self._values, self._gradients, strict=True):
                gradient.addcmul_(value, self._decay)
        match self._kind:
            case "sgd":
                self._step_sgd(lr)
            case "adam" | "adamw":
                self._step_adam(lr, done)
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
    """All members over all of their parameters, in at most 12 operations, whatever their optimizers, betas and rates are.

    Values, gradients and moments are [M, N], coefficients [M, 1]. The members are sorted by JOINT_ORDER, so those that share an operation
    are a slice. `first` is the buffer of momentum or Adam's mean of gradients m, `square` RMSprop's and Adam's mean of squares s.
        L2 penalty           g += decay value                          all but adamw
        squares              s += (1 - β) (g² - s)                     rmsprop (β = ALPHA), adam, adamw
        divisor              d = gain √s + shift                       the same
        RMSprop              g /= d            gain 1, shift EPS
        momentum             b = μ b + g;  value -= lr b               sgd, rmsprop
        Adam                 m += (1 - β₁) (g - m);  value += m / d    adam, adamw
    The coefficients of Adam's divisor contain learning rate and bias corrections c₁ = 1 - β₁ᵗ, c₂ = 1 - β₂ᵗ of step t:
        -lr (m / c₁) / (√(s / c₂) + EPS) = m / d    with    gain = -c₁ / (lr √c₂),  shift = -EPS c₁ / lr
    They are computed at the start of a round for all of its steps, so no step copies anything from the host.
    """

    def __init__(self, coefficients: Sequence[Coefficients], flat: MemberParameter, sizes: Sequence[int]) -> None:
        """`sizes` are the numbers of a member's values in each parameter."""
        kinds = [own.kind for own in coefficients]
        if kinds != sorted(kinds, key=JOINT_ORDER.index):
            raise ValueError("the members are not sorted by their optimizers")
        # Members `starts[k]` to `starts[k + 1]` have the kind JOINT_ORDER[k].
        starts = list(accumulate((kinds.count(kind) for kind in JOINT_ORDER), initial=0))
        _, rmsprop, adam, adamw, _ = starts
        self._momentums, self._squares, self._adams = slice(0, adam), slice(rmsprop, None), slice(adam, None)
        self._adamws, self._penalised = slice(adamw, None), slice(0, adamw)
        value, gradient, first = flat.value, flat.gradient, torch.zeros_like(flat.value)
        square = torch.zeros_like(value[self._squares])
        divisor = torch.empty_like(square)
        self.states = [
            _state(kind, slice(*ends), first[slice(*ends)], square[max(0, ends[0] - rmsprop) : max(0, ends[1] - rmsprop)], sizes)
            for kind, ends in zip(JOINT_ORDER, pairwise(starts), strict=True)
            if kind in kinds
        ]

        def column(numbers: Iterable[float]) -> Tensor:
            return torch.tensor(list(numbers), dtype=torch.float64)[:, None]  # on the host

        self._betas = [column(own.betas[index] for own in coefficients) for index in (0, 1)]
        self._decay = column(own.weight_decay for own in coefficients)
        momentum = column(own.momentum for own in coefficients)
        new_first, new_square = 1 - self._betas[0], 1 - column(ALPHA if own.kind == "rmsprop" else own.betas[1] for own in coefficients)
        self._has_penalty, self._has_momentum = bool(self._decay[self._penalised].any()), bool(momentum.any())
        self._has_decay = bool(self._decay[self._adamws].any())

        # The operands of each operation in `step`; slicing them there would take the host as long as the launches.
        some = self._penalised
        self._of_penalty = gradient[some], value[some], self._decay[some].to(value)
        some = self._squares
        self._of_squares = gradient[some], square, new_square[some].to(value), divisor
        self._of_rmsprop = gradient[rmsprop:adam], divisor[: adam - rmsprop]
        some = self._momentums
        self._of_momentum = value[some], gradient[some], first[some], momentum[some].to(value)
        some = self._adams
        self._of_adam = value[some], gradient[some], first[some], new_first[some].to(value), divisor[adam - rmsprop :]
        self._of_decay = value[self._adamws]
        self._round, self._rows = torch.empty(0), [adam, len(kinds) - rmsprop, len(kinds) - rmsprop, len(kinds) - adamw]

    def begin(self, rates: Tensor, done: int) -> None:
        lr = rates.to("cpu", torch.float64)[:, :, None]  # [steps, M, 1]
        numbers = torch.arange(done + 1, done + 1 + len(lr), dtype=torch.float64)[:, None, None]
        first, second = ((1 - betas**numbers)[:, self._adams] for betas in self._betas)
        gain, shift = torch.ones_like(lr), torch.full_like(lr, EPS)
        # A learning rate of 0 makes the divisor so large that the update does not matter, but not infinite.
        inverse = -first / lr[:, self._adams].clamp(min=1e-30)
        gain[:, self._adams], shift[:, self._adams] = inverse / second.sqrt(), inverse * EPS
        left = 1 - lr * self._decay
        columns = (lr[:, self._momentums], gain[:, self._squares], shift[:, self._squares], left[:, self._adamws])
        self._round = torch.cat(columns, 1).to(self._of_decay)  # the only copy of the round

    def step(self, number: int, done: int) -> None:
        lr, gain, shift, left = torch.split(self._round[number], self._rows)
        if self._has_penalty:
            gradient, value, penalty = self._of_penalty
            gradient.addcmul_(value, penalty)
        gradient, square, new, divisor = self._of_squares
        if len(square):
            torch.mul(gradient, gradient, out=divisor)
            square.lerp_(divisor, new)
            torch.sqrt(square, out=divisor)
            torch.addcmul(shift, divisor, gain, out=divisor)
        gradient, divisor = self._of_rmsprop
        if len(gradient):
            gradient.div_(divisor)
        value, gradient, first, momentum = self._of_momentum
        if len(value):
            move = torch.addcmul(gradient, first, momentum, out=first) if self._has_momentum else gradient
            value.addcmul_(move, lr, value=-1)
        value, gradient, first, new, divisor = self._of_adam
        if len(value):
            first.lerp_(gradient, new)
            if self._has_decay:
                self._of_decay.mul_(left)
            value.addcdiv_(first, divisor)


def _state(kind: OptimizerKind, members: slice, first: Tensor, square: Tensor, sizes: Sequence[int]) -> State:
    """Views of the moments of members of that kind, which are rows of the buffers [M, N]."""
    starts = accumulate((padded(size) for size in sizes), initial=0)
    columns = [slice(start, start + size) for start, size in zip(starts, sizes, strict=False)]
    buffers = {name: square if name in ("exp_avg_sq", "square_avg") else first for name in MOMENTS[kind]}
    return State(members, {name: [buffer[:, own] for own in columns] for name, buffer in buffers.items()})
