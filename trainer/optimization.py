"""Optimizers and their coefficients, parameter groups, and the learning rate at every step."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, assert_never

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trainer.configuration import Hyperparameters
from trainer.models import StagedModel

ONE_CYCLE_RISE = 0.3  # share of the steps in which one_cycle rises when no warm-up is asked for (Smith and Topin 2018; torch's default)
ONE_CYCLE_START = 1 / 25  # of the peak
ONE_CYCLE_END = ONE_CYCLE_START / 10_000
EPS, ALPHA = 1e-8, 0.99  # torch's defaults: of adam, adamw and rmsprop; of rmsprop

Kind = Literal["sgd", "adam", "adamw", "rmsprop"]
MOMENTS: Mapping[Kind, tuple[str, ...]] = {
    "sgd": ("momentum_buffer",),
    "adam": ("exp_avg", "exp_avg_sq"),
    "adamw": ("exp_avg", "exp_avg_sq"),
    "rmsprop": ("square_avg", "momentum_buffer"),
}
"""State that each optimizer keeps for a parameter, by torch's names."""


@dataclass(frozen=True, slots=True)
class Coefficients:
    """The constants of an optimizer's update; what it does not use is 0. torch's optimizers and those of head ensembles both use them."""

    kind: Kind
    weight_decay: float
    momentum: float
    betas: tuple[float, float]

    @classmethod
    def of(cls, config: Hyperparameters) -> "Coefficients":
        """Those that the config asks for."""
        adam = config.optimizer in ("adam", "adamw")
        betas = (config.beta1, config.beta2) if adam else (0.0, 0.0)
        return cls(config.optimizer, config.weight_decay, 0.0 if adam else config.momentum, betas)

    @property
    def moments(self) -> tuple[str, ...]:
        """Those of MOMENTS that torch keeps: it has no buffer for a momentum of 0."""
        return tuple(name for name in MOMENTS[self.kind] if name != "momentum_buffer" or self.momentum > 0)


@dataclass(frozen=True, slots=True, eq=False)
class ParameterGroup:
    """Parameters that are trained with the same learning rate."""

    parameters: Sequence[nn.Parameter]
    lr_factor: float = 1.0  # of the schedule's learning rate


def parameter_groups(model: StagedModel) -> list[ParameterGroup]:
    """The learning rate is the same at every depth: one group, in the network's order, by which checkpoints number its parameters."""
    return [ParameterGroup(list(model.trainable_parameters()))]


def make_optimizer(groups: Sequence[ParameterGroup], config: Hyperparameters) -> Optimizer:
    """The optimizer that the config names, over the groups. The learning rate is set anew at each step."""
    own, lr, is_cuda = [{"params": group.parameters} for group in groups], config.lr, groups[0].parameters[0].is_cuda
    coefficients = Coefficients.of(config)
    decay, momentum, betas = coefficients.weight_decay, coefficients.momentum, coefficients.betas
    match coefficients.kind:
        case "sgd":
            kernel = "fused" if is_cuda else "foreach"  # on a CPU the fused one takes 1.6 to 2.1 times as long: bench.step
            return torch.optim.SGD(own, lr, momentum=momentum, weight_decay=decay, **{kernel: True})
        case "adam":
            return torch.optim.Adam(own, lr, betas, eps=EPS, weight_decay=decay, fused=True)
        case "adamw":
            return torch.optim.AdamW(own, lr, betas, eps=EPS, weight_decay=decay, fused=True)
        case "rmsprop":
            return torch.optim.RMSprop(own, lr, alpha=ALPHA, eps=EPS, momentum=momentum, weight_decay=decay)
        case _:
            assert_never(coefficients.kind)


def learning_rates(configs: Sequence[Hyperparameters], first: int, count: int, steps_per_epoch: int) -> Tensor:
    """The learning rate of each config [M] at `count` steps from step `first` on: float64 [count, M], on the host."""
    steps = range(first, first + count)
    return torch.tensor([[lr_at(step, steps_per_epoch, config) for config in configs] for step in steps], dtype=torch.float64)


def lr_at(step: int, steps_per_epoch: int, config: Hyperparameters) -> float:
    """The learning rate of the batch `step`, counted from 0 over all epochs: a pure function.

    The first warmup_fraction of all steps rise linearly to the peak, `config.lr`; the schedule follows on the rest. The step
    schedule counts its epochs from the start of the run. one_cycle has its rise in the warm-up (30 % of the steps when
    warmup_fraction is 0), from a 25th of the peak, then falls as a cosine to a 250,000th.
    """
    steps = config.epochs * steps_per_epoch
    if config.schedule == "one_cycle":
        rise = round((config.warmup_fraction or ONE_CYCLE_RISE) * steps)
        if step < rise:
            return config.lr * (ONE_CYCLE_START + (1 - ONE_CYCLE_START) * step / rise)
        return config.lr * (ONE_CYCLE_END + (1 - ONE_CYCLE_END) * _cosine((step - rise) / (steps - rise)))
    warmup = round(config.warmup_fraction * steps)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    match config.schedule:
        case "constant":
            return config.lr
        case "cosine":
            return config.lr * _cosine((step - warmup) / (steps - warmup))
        case "step":
            return float(config.lr * config.lr_gamma ** (step // steps_per_epoch // config.lr_step_epochs))
        case _:
            assert_never(config.schedule)


def _cosine(progress: float) -> float:
    """From 1 at 0 to 0 at 1."""
    return 0.5 * (1 + math.cos(math.pi * progress))
