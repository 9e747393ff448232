"""The optimizers of torch, for lanes that each have a learning rate, weight decay and momentum of their own."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, Literal, assert_never

import torch
from torch import Tensor, nn

from trainer.contract import Hyperparameters
from trainer.lanes.layers import Parameter
from trainer.optimization import make_optimizer

Kind = Literal["sgd", "adam", "adamw", "rmsprop"]
FIRST_BETA, SECOND_BETA, EPS, ALPHA = 0.9, 0.999, 1e-8, 0.99  # torch's defaults, which trainer.optimization leaves as they are
MOMENTS: Mapping[Kind, tuple[str, ...]] = {
    "sgd": ("momentum_buffer",),
    "adam": ("exp_avg", "exp_avg_sq"),
    "adamw": ("exp_avg", "exp_avg_sq"),
    "rmsprop": ("square_avg", "momentum_buffer"),
}
"""What each keeps of earlier gradients, by torch's names."""


class Optimizers:
    """One optimizer a lane. Lanes with one of the same kind must lie together, so that they are stepped in one go."""

    def __init__(self, configs: Sequence[Hyperparameters], parameters: Mapping[str, Parameter]) -> None:
        self.done = 0  # steps
        self._configs, self._parameters = tuple(configs), dict(parameters)
        self._groups = list[_Group]()
        for kind, some in groupby(range(len(configs)), lambda lane: configs[lane].optimizer):
            lanes = list(some)
            own = [parameter.of(lanes[0], lanes[-1] + 1) for parameter in parameters.values()]
            self._groups.append(_Group(kind, lanes[0], [configs[lane] for lane in lanes], own))

    def step(self, lr: Tensor) -> None:
        """Move all parameters by their gradients, which are used up; learning rates [L]."""
        self.done += 1
        for group in self._groups:
            group.step(lr[group.lanes, None], self.done)

    def kept(self, lanes: Sequence[int], parameters: Mapping[str, Parameter]) -> "Optimizers":
        """Those of these lanes alone, over their parameters."""
        found = Optimizers([self._configs[lane] for lane in lanes], parameters)
        found.done = self.done
        for place, lane in enumerate(lanes):
            found._set(place, self._moments(lane))
        return found

    def exported(self, lane: int, order: Sequence[str]) -> dict[str, Any]:
        """The lane's state dict as torch's optimizer has it, for parameters in that order. Tensors are views."""
        config, moments = self._configs[lane], self._moments(lane)
        shapes = {name: parameter.value.shape[1:] for name, parameter in self._parameters.items()}
        names = list(self._parameters)
        found: dict[str, Any] = _empty(config, [shapes[name] for name in order])
        if self.done:
            for index, name in enumerate(order):
                own = {kind: of[names.index(name)].view(shapes[name]) for kind, of in moments.items() if _keeps(config, kind)}
                step = {} if config.optimizer == "sgd" else {"step": torch.tensor(float(self.done))}
                if own:
                    found["state"][index] = step | own
        return found

    def load(self, lane: int, state: Mapping[str, Any], order: Sequence[str], done: int) -> None:
        """Take over what `exported` gave after so many steps, for the lane; every lane must have done as many."""
        self.done = done
        kinds = [kind for kind in MOMENTS[self._configs[lane].optimizer] if _keeps(self._configs[lane], kind)]
        found = {kind: [state["state"][order.index(name)][kind].flatten() for name in self._parameters] for kind in kinds}
        self._set(lane, found)

    def _group_of(self, lane: int) -> "_Group":
        return next(group for group in self._groups if group.lanes.start <= lane < group.lanes.stop)

    def _moments(self, lane: int) -> dict[str, list[Tensor]]:
        group = self._group_of(lane)
        return {kind: [tensor[lane - group.lanes.start] for tensor in of] for kind, of in group.moments.items()}

    def _set(self, lane: int, moments: Mapping[str, Sequence[Tensor]]) -> None:
        group = self._group_of(lane)
        for kind, tensors in moments.items():
            for into, tensor in zip(group.moments[kind], tensors, strict=True):
                into[lane - group.lanes.start].copy_(tensor)


def _keeps(config: Hyperparameters, moment: str) -> bool:
    """Torch keeps no momentum where there is none."""
    return moment != "momentum_buffer" or config.momentum > 0


def _empty(config: Hyperparameters, shapes: Sequence[torch.Size]) -> dict[str, Any]:
    return make_optimizer([nn.Parameter(torch.empty(shape, device="meta")) for shape in shapes], config).state_dict()


class _Group:
    """Lanes in a row whose optimizers are of one kind. All tensors are [L, N], coefficients [L, 1]."""

    def __init__(self, kind: Kind, first: int, configs: Sequence[Hyperparameters], parameters: Sequence[Parameter]) -> None:
        self.lanes = slice(first, first + len(configs))
        self._kind = kind
        self._values = [parameter.value.flatten(1) for parameter in parameters]
        self._gradients = [parameter.gradient.flatten(1) for parameter in parameters]
        self.moments = {name: [torch.zeros_like(value) for value in self._values] for name in MOMENTS[kind]}
        like = self._values[0]
        self._momentum = like.new_tensor([config.momentum for config in configs])[:, None]
        self._decay = like.new_tensor([config.weight_decay for config in configs])[:, None]
        self._decays, self._has_momentum = bool(self._decay.any()), bool(self._momentum.any())
        if kind in ("adam", "adamw"):
            self._moves = [torch.zeros_like(value) for value in self._values]
            self._steps = [torch.zeros((), device=like.device) for _ in self._values]

    def step(self, lr: Tensor, done: int) -> None:
        """One step with learning rates [L, 1]; `done` counts it."""
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
        for value, gradient, momentum in zip(self._values, self._gradients, self.moments["momentum_buffer"], strict=True):
            if self._has_momentum:
                gradient = momentum.mul_(self._momentum).add_(gradient)
            value.addcmul_(gradient, lr, value=-1)

    def _step_adam(self, lr: Tensor, done: int) -> None:
        """Torch's fused kernel knows one learning rate only. So it moves by a rate of 1, from 0, and each lane takes its share.

        With a rate and a decoupled weight decay of 1 the kernel itself puts the last move back to 0 first. One pass over the memory
        does what takes seven by single operations.
        """
        for step in self._steps:
            step.fill_(done)
        torch._fused_adamw_(
            self._moves, self._gradients, self.moments["exp_avg"], self.moments["exp_avg_sq"], [], self._steps,
            lr=1.0, beta1=FIRST_BETA, beta2=SECOND_BETA, weight_decay=1.0, eps=EPS, amsgrad=False, maximize=False,
        )  # fmt: skip
        left = 1 - lr * self._decay if self._decays and self._kind == "adamw" else None
        for value, move in zip(self._values, self._moves, strict=True):
            if left is not None:
                value.mul_(left)
            value.addcmul_(move, lr)

    def _step_rmsprop(self, lr: Tensor) -> None:
        for value, gradient, square, momentum in zip(
            self._values, self._gradients, self.moments["square_avg"], self.moments["momentum_buffer"], strict=True
        ):
            square.mul_(ALPHA).addcmul_(gradient, gradient, value=1 - ALPHA)
            gradient.div_(square.sqrt().add_(EPS))
            if self._has_momentum:
                gradient = momentum.mul_(self._momentum).add_(gradient)
            value.addcmul_(gradient, lr, value=-1)
