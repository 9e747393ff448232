"""torch's optimizers for heads trained together, each member with its own learning rate, weight decay and momentum."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, assert_never

import torch
from torch import Tensor, nn

from trainer.configuration import Hyperparameters
from trainer.heads.layers import MemberParameter
from trainer.optimization import ALPHA, EPS, MOMENTS, Coefficients, OptimizerKind, ParameterGroup, make_optimizer

OptimizerSort = tuple[OptimizerKind, tuple[float, float]]


def sort_of(config: Hyperparameters) -> OptimizerSort:
    """The optimizer's kind and betas. Members of equal sort are stepped together: torch's fused Adam kernel takes one pair of betas."""
    coefficients = Coefficients.of(config)
    return coefficients.kind, coefficients.betas


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


class Optimizers:
    """One optimizer for each member. Members of equal sort should be consecutive, so that they are stepped together."""

    def __init__(self, configs: Sequence[Hyperparameters], parameters: Mapping[str, MemberParameter]) -> None:
        self.done = 0  # steps
        self._configs, self._parameters = tuple(configs), dict(parameters)
        self._groups = list[_Group]()
        for _, some in groupby(range(len(configs)), lambda place: sort_of(configs[place])):
            places = list(some)
            own = [parameter.of(places[0], places[-1] + 1) for parameter in parameters.values()]
            self._groups.append(_Group(places[0], [Coefficients.of(configs[place]) for place in places], own))

    def step(self, lr: Tensor) -> None:
        """Update all parameters from their gradients, which are overwritten; learning rates [M]."""
        self.done += 1
        for group in self._groups:
            group.step(lr[group.members, None], self.done)

    def kept(self, places: Sequence[int], parameters: Mapping[str, MemberParameter]) -> "Optimizers":
        """Optimizers of the members at `places` over `parameters`, with copies of their moments."""
        found = Optimizers([self._configs[place] for place in places], parameters)
        found.done, moments = self.done, self.moments
        for place, before in enumerate(places):
            found._set(place, moments.of(before))
        return found

    @property
    def moments(self) -> Moments:
        """Views of the current moments; the next step changes them."""
        shapes = {name: parameter.value.shape[1:] for name, parameter in self._parameters.items()}
        return Moments(self._configs, shapes, self.done, tuple((group.members, group.moments) for group in self._groups))

    def load(self, place: int, state: Mapping[str, Any], order: Sequence[str], done: int) -> None:
        """Load torch's state dict for the member at `place`. All members must have done the same number of steps."""
        self.done = done
        moments = Coefficients.of(self._configs[place]).moments
        self._set(place, {name: [state["state"][order.index(own)][name].flatten() for own in self._parameters] for name in moments})

    def _set(self, place: int, moments: Mapping[str, Sequence[Tensor]]) -> None:
        group = next(group for group in self._groups if group.members.start <= place < group.members.stop)
        for name, tensors in moments.items():
            for into, tensor in zip(group.moments[name], tensors, strict=True):
                into[place - group.members.start].copy_(tensor)


class _Group:
    """Consecutive members of equal sort. Values, gradients and moments are [M, N], coefficients [M, 1]."""

    def __init__(self, first: int, coefficients: Sequence[Coefficients], parameters: Sequence[MemberParameter]) -> None:
        self.members = slice(first, first + len(coefficients))
        self._kind, self._betas = coefficients[0].kind, coefficients[0].betas
        self._values = [parameter.value.flatten(1) for parameter in parameters]
        self._gradients = [parameter.gradient.flatten(1) for parameter in parameters]
        self.moments = {name: [torch.zeros_like(value) for value in self._values] for name in MOMENTS[self._kind]}
        like = self._values[0]
        self._momentum = like.new_tensor([own.momentum for own in coefficients])[:, None]
        self._decay = like.new_tensor([own.weight_decay for own in coefficients])[:, None]
        self._decays, self._has_momentum = bool(self._decay.any()), bool(self._momentum.any())
        if self._kind in ("adam", "adamw"):
            self._moves = [torch.zeros_like(value) for value in self._values]
            self._steps = [torch.zeros((), device=like.device) for _ in self._values]

    def step(self, lr: Tensor, done: int) -> None:
        """Step number `done`, from 1, with learning rates [M, 1]."""
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
        for value, gradient, momentum in zip(self._values, self._gradients, self.moments["momentum_buffer"], strict=True):
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
            self._moves, self._gradients, self.moments["exp_avg"], self.moments["exp_avg_sq"], [], self._steps,
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
            self._values, self._gradients, self.moments["square_avg"], self.moments["momentum_buffer"], strict=True
        ):
            square.mul_(ALPHA).addcmul_(gradient, gradient, value=1 - ALPHA)
            gradient.div_(square.sqrt().add_(EPS))
            if self._has_momentum:
                gradient = momentum.mul_(self._momentum).add_(gradient)
            value.addcmul_(gradient, lr, value=-1)
