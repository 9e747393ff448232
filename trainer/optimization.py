"""Optimizers, their coefficients and parameter groups, and learning rate schedules."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, assert_never

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trainer.configuration import Hyperparameters
from trainer.models import StagedModel

ONE_CYCLE_RISE = 0.3  # share of the steps in which one_cycle rises if warmup_fraction is 0 (Smith and Topin 2018; torch's default)
ONE_CYCLE_START = 1 / 25  # of the peak
ONE_CYCLE_END = ONE_CYCLE_START / 10_000
EPS, ALPHA = 1e-8, 0.99  # torch's defaults; EPS of adam, adamw and rmsprop, ALPHA of rmsprop

OptimizerKind = Literal["sgd", "adam", "adamw", "rmsprop"]
MOMENTS: Mapping[OptimizerKind, tuple[str, ...]] = {
    "sgd": ("momentum_buffer",),
    "adam": ("exp_avg", "exp_avg_sq"),
    "adamw": ("exp_avg", "exp_avg_sq"),
    "rmsprop": ("square_avg", "momentum_buffer"),
}
"""State that each optimizer keeps for a parameter, under torch's names."""


@dataclass(frozen=True, slots=True)
class Coefficients:
    """The constants of an optimizer's update; unused ones are 0. Used by torch's optimizers and by those of head ensembles."""

    kind: OptimizerKind
    weight_decay: float
    momentum: float
    betas: tuple[float, float]

    @classmethod
    def of(cls, config: Hyperparameters) -> "Coefficients":
        """The coefficients of the config's optimizer."""
        adam = config.optimizer in ("adam", "adamw")
        betas = (config.beta1, config.beta2) if adam else (0.0, 0.0)
        return cls(config.optimizer, config.weight_decay, 0.0 if adam else config.momentum, betas)

    @property
    def moments(self) -> tuple[str, ...]:
        """The names in MOMENTS for which torch keeps state: it keeps no buffer for a momentum of 0."""
        return tuple(name for name in MOMENTS[self.kind] if name != "momentum_buffer" or self.momentum > 0)


@dataclass(frozen=True, slots=True, eq=False)
class ParameterGroup:
    """Parameters that are trained with the same learning rate."""

    parameters: Sequence[nn.Parameter]
    lr_factor: float = 1.0  # of the schedule's learning rate


def parameter_groups(model: StagedModel) -> list[ParameterGroup]:
    """One group in the network's order, by which checkpoints number parameters; with layer decay one for each stage, and the head's.

    The factor of the head is 1, that of each stage the factor of the part above times the decay. Source: Clark et al., ELECTRA, ICLR 2020.
    """
    if model.layer_decay == 1:
        return [ParameterGroup(list(model.trainable_parameters()))]
    groups, parts = list[ParameterGroup](), (*model.stages, model.head)
    for height, part in zip(range(len(parts) - 1, -1, -1), parts, strict=True):
        if own := [parameter for parameter in part.parameters() if parameter.requires_grad]:
            groups.append(ParameterGroup(own, model.layer_decay**height))
    return groups


class ScaledRMSprop(torch.optim.RMSprop):
    """RMSprop for GradScaler, which skips the step on the device if gradients overflowed, as torch's fused optimizers do.

    With torch's own the scaler reads on the host in each step whether they did. `torch._fused_sgd_` skips on the device, and does both
    updates:
        s ← s - lr (g² + decay s)     with lr = -(1 - ALPHA) and decay = -1, which is ALPHA s + (1 - ALPHA) g²
        b ← momentum b + g / (√s + EPS),   v ← v - lr b
    """

    _step_supports_amp_scaling = True  # so that the scaler sets `grad_scale` and `found_inf` instead of reading
    grad_scale: Tensor
    found_inf: Tensor

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update the parameters from their scaled gradients, which are overwritten. Only GradScaler may call this."""
        inverse = self.grad_scale.double().reciprocal().float()
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            states = [self._state_of(parameter, momentum=group["momentum"] > 0) for parameter in parameters]
            gradients, squares = [parameter.grad for parameter in parameters], [state["square_avg"] for state in states]
            torch._foreach_add_([state["step"] for state in states], [1 - self.found_inf] * len(states))
            torch._foreach_mul_(gradients, inverse)
            if group["weight_decay"]:
                torch._foreach_add_(gradients, parameters, alpha=group["weight_decay"])
            self._skipping_sgd(squares, torch._foreach_mul(gradients, gradients), [], lr=group["alpha"] - 1, decay=-1.0)
            roots = torch._foreach_sqrt(squares)
            torch._foreach_add_(roots, group["eps"])
            torch._foreach_div_(gradients, roots)
            buffers = [state["momentum_buffer"] for state in states] if group["momentum"] > 0 else []
            self._skipping_sgd(parameters, gradients, buffers, lr=group["lr"], momentum=group["momentum"])

    def _skipping_sgd(
        self,
        values: list[Tensor],
        gradients: Sequence[Tensor],
        buffers: list[Tensor],
        *,
        lr: float,
        decay: float = 0.0,
        momentum: float = 0.0,
    ) -> None:
        torch._fused_sgd_(
            values, list(gradients), buffers, weight_decay=decay, momentum=momentum, lr=lr, dampening=0.0, nesterov=False, maximize=False,
            is_first_step=False, found_inf=self.found_inf,
        )  # fmt: skip

    def _state_of(self, parameter: Tensor, *, momentum: bool) -> dict[str, Tensor]:
        """The state under torch's names; the number of steps is on the device too."""
        state: dict[str, Tensor] = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), device=parameter.device)
            for name in ("square_avg", "momentum_buffer") if momentum else ("square_avg",):
                state[name] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        if state["step"].device != parameter.device:  # of a checkpoint
            state["step"] = state["step"].to(parameter.device)
        return state


def make_optimizer(groups: Sequence[ParameterGroup], config: Hyperparameters) -> Optimizer:
    """The config's optimizer over the groups. The caller sets the learning rate before each step.

    For float16, whose loss is scaled, each optimizer skips steps on the device.
    """
    is_scaled = config.precision == "float16"
    own, lr, is_cuda = [{"params": group.parameters} for group in groups], config.lr, groups[0].parameters[0].is_cuda
    coefficients = Coefficients.of(config)
    decay, momentum, betas = coefficients.weight_decay, coefficients.momentum, coefficients.betas
    match coefficients.kind:
        case "sgd":
            kernel = "fused" if is_cuda or is_scaled else "foreach"  # on a CPU fused takes 1.6 to 2.1 times as long (bench.step)
            sgd = torch.optim.SGD(own, lr, momentum=momentum, weight_decay=decay, **{kernel: True})
            if is_scaled and momentum > 0:  # torch allocates the buffers in the first step, and leaves them unset if that is skipped
                for parameter in (parameter for group in groups for parameter in group.parameters):
                    sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
            return sgd
        case "adam":
            return torch.optim.Adam(own, lr, betas, eps=EPS, weight_decay=decay, fused=True)
        case "adamw":
            return torch.optim.AdamW(own, lr, betas, eps=EPS, weight_decay=decay, fused=True)
        case "rmsprop":
            kind = ScaledRMSprop if is_scaled else torch.optim.RMSprop
            return kind(own, lr, alpha=ALPHA, eps=EPS, momentum=momentum, weight_decay=decay)
        case _:
            assert_never(coefficients.kind)


def learning_rates(configs: Sequence[Hyperparameters], first: int, count: int, steps_per_epoch: int) -> Tensor:
    """The learning rate of each of M configs at `count` steps from step `first`: float64 [count, M], on the host.

    Equal to `lr_at` to the last bit. Configs that differ only in `lr` share the computation of their schedule.
    """
    shapes = [_shape_of(config) for config in configs]
    each = {shape: place for place, shape in enumerate(shapes)}  # one config of each shape
    distinct = list(each)
    factors = torch.tensor(
        [[_factor_at(step, steps_per_epoch, configs[place]) for place in each.values()] for step in range(first, first + count)],
        dtype=torch.float64,
    )[:, [distinct.index(shape) for shape in shapes]]  # [count, M, 2]
    return torch.tensor([config.lr for config in configs], dtype=torch.float64) * factors[..., 0] / factors[..., 1]


def _shape_of(config: Hyperparameters) -> tuple[object, ...]:
    """The hyperparameters of the schedule besides the peak."""
    return config.schedule, config.warmup_fraction, config.epochs, config.lr_gamma, config.lr_step_epochs


def lr_at(step: int, steps_per_epoch: int, config: Hyperparameters) -> float:
    """The learning rate of batch `step`, counted from 0 over all epochs: a pure function.

    The rate rises linearly to the peak `config.lr` in the first `warmup_fraction` of all steps; the schedule applies to the rest. The
    step schedule counts epochs from the start of the run. one_cycle rises from peak / 25 in the warm-up (30 % of the steps if
    warmup_fraction is 0), then falls as a cosine to peak / 250,000.
    """
    factor, divisor = _factor_at(step, steps_per_epoch, config)
    return config.lr * factor / divisor


def _factor_at(step: int, steps_per_epoch: int, config: Hyperparameters) -> tuple[float, float]:
    """The factor and the divisor of the peak at the step."""
    steps = config.epochs * steps_per_epoch
    if config.schedule == "one_cycle":
        rise = round((config.warmup_fraction or ONE_CYCLE_RISE) * steps)
        if step < rise:
            return ONE_CYCLE_START + (1 - ONE_CYCLE_START) * step / rise, 1.0
        return ONE_CYCLE_END + (1 - ONE_CYCLE_END) * _cosine((step - rise) / (steps - rise)), 1.0
    warmup = round(config.warmup_fraction * steps)
    if step < warmup:
        return step + 1.0, warmup  # divided last, as the exported script does
    match config.schedule:
        case "constant":
            return 1.0, 1.0
        case "cosine":
            return _cosine((step - warmup) / (steps - warmup)), 1.0
        case "step":
            return float(config.lr_gamma ** (step // steps_per_epoch // config.lr_step_epochs)), 1.0
        case _:
            assert_never(config.schedule)


def _cosine(progress: float) -> float:
    """From 1 at 0 to 0 at 1."""
    return 0.5 * (1 + math.cos(math.pi * progress))
