"""The optimizers of torch, for lanes that each have a learning rate, weight decay and momentum of their own."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, assert_never

import torch
from torch import Tensor

from trainer.contract import Hyperparameters
from trainer.lanes.layers import Parameter
from trainer.lanes.moments import MOMENTS, Moments, keeps

EPS, ALPHA = 1e-8, 0.99  # torch's defaults, which trainer.optimization leaves as they are


Sort = tuple[str, float, float]


def sort_of(config: Hyperparameters) -> Sort:
    """Lanes of equal sort are stepped in one go. Torch's fused kernel for Adam takes one pair of betas."""
    return config.optimizer, *((config.beta1, config.beta2) if config.optimizer in ("adam", "adamw") else (0.0, 0.0))


class Optimizers:
    """One optimizer a lane. Lanes of the same sort should lie together, so that they are stepped in one go."""

    def __init__(self, configs: Sequence[Hyperparameters], parameters: Mapping[str, Parameter]) -> None:
        self.done = 0  # steps
        self._configs, self._parameters = tuple(configs), dict(parameters)
        self._groups = list[_Group]()
        for _, some in groupby(range(len(configs)), lambda lane: sort_of(configs[lane])):
            lanes = list(some)
            own = [parameter.of(lanes[0], lanes[-1] + 1) for parameter in parameters.values()]
            self._groups.append(_Group(lanes[0], [configs[lane] for lane in lanes], own))

    def step(self, lr: Tensor) -> None:
        """Move all parameters by their gradients, which are used up; learning rates [L]."""
        self.done += 1
        for group in self._groups:
            group.step(lr[group.lanes, None], self.done)

    def kept(self, lanes: Sequence[int], parameters: Mapping[str, Parameter]) -> "Optimizers":
        """Those of these lanes alone, over their parameters."""
        found = Optimizers([self._configs[lane] for lane in lanes], parameters)
        found.done, moments = self.done, self.moments
        for place, lane in enumerate(lanes):
            found._set(place, moments.of(lane))
        return found

    @property
    def moments(self) -> Moments:
        """As they are now; they change with the next step."""
        shapes = {name: parameter.value.shape[1:] for name, parameter in self._parameters.items()}
        return Moments(self._configs, shapes, self.done, tuple((group.lanes, group.moments) for group in self._groups))

    def load(self, lane: int, state: Mapping[str, Any], order: Sequence[str], done: int) -> None:
        """Take over, for the lane, torch's state dict after so many steps; every lane must have done as many."""
        self.done = done
        kinds = [kind for kind in MOMENTS[self._configs[lane].optimizer] if keeps(self._configs[lane], kind)]
        self._set(lane, {kind: [state["state"][order.index(name)][kind].flatten() for name in self._parameters] for kind in kinds})

    def _set(self, lane: int, moments: Mapping[str, Sequence[Tensor]]) -> None:
        group = next(group for group in self._groups if group.lanes.start <= lane < group.lanes.stop)
        for kind, tensors in moments.items():
            for into, tensor in zip(group.moments[kind], tensors, strict=True):
                into[lane - group.lanes.start].copy_(tensor)


class _Group:
    """Lanes in a row whose optimizers are of one sort. All tensors are [L, N], coefficients [L, 1]."""

    def __init__(self, first: int, configs: Sequence[Hyperparameters], parameters: Sequence[Parameter]) -> None:
        self.lanes = slice(first, first + len(configs))
        self._kind = kind = configs[0].optimizer
        self._betas = configs[0].beta1, configs[0].beta2
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
            lr=1.0, beta1=self._betas[0], beta2=self._betas[1], weight_decay=1.0, eps=EPS, amsgrad=False, maximize=False,
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
