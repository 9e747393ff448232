"""Optimizers, and the learning rate at every step."""

import math
from collections.abc import Iterable
from typing import assert_never

import torch
from torch import nn
from torch.optim import Optimizer

from trainer.contract import Hyperparameters

ONE_CYCLE_RISE = 0.3  # share of the steps in which one_cycle rises when no warm-up is asked for (Smith and Topin 2018; torch's default)
ONE_CYCLE_START = 1 / 25  # of the peak
ONE_CYCLE_END = ONE_CYCLE_START / 10_000


def make_optimizer(parameters: Iterable[nn.Parameter], config: Hyperparameters) -> Optimizer:
    """The optimizer that the config names, over the parameters. The learning rate is set anew at each step."""
    own = list(parameters)
    lr, decay, betas = config.lr, config.weight_decay, (config.beta1, config.beta2)
    match config.optimizer:
        case "sgd":
            kernel = "fused" if own[0].is_cuda else "foreach"  # on a CPU the fused one takes 1.6 to 2.1 times as long: bench.step
            return torch.optim.SGD(own, lr, momentum=config.momentum, weight_decay=decay, **{kernel: True})
        case "adam":
            return torch.optim.Adam(own, lr, betas, weight_decay=decay, fused=True)
        case "adamw":
            return torch.optim.AdamW(own, lr, betas, weight_decay=decay, fused=True)
        case "rmsprop":
            return torch.optim.RMSprop(own, lr, momentum=config.momentum, weight_decay=decay)
        case _:
            assert_never(config.optimizer)


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
