"""The learning rate of every step, and the optimizers' arithmetic."""

import math
from itertools import product
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from torch import nn

from trainer import optimization
from trainer.optimization import ParameterGroup, learning_rates, lr_at, make_optimizer
from trainer.tasks.image_classification.config import ImageClassificationHyperparameters

PER_EPOCH = 10


def rates(**values: Any) -> list[float]:
    config = ImageClassificationHyperparameters(lr=1.0, epochs=4, **values)
    return [lr_at(step, PER_EPOCH, config) for step in range(config.epochs * PER_EPOCH)]


def test_constant_stays() -> None:
    assert rates(schedule="constant") == [1.0] * 40


def test_warm_up_rises_linearly_to_the_peak_over_its_share_of_the_steps() -> None:
    found = rates(schedule="constant", warmup_fraction=0.25)
    assert found[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert found[10:] == [1.0] * 30


def test_cosine_falls_from_the_peak_to_nearly_nothing_after_the_warm_up() -> None:
    found = rates(schedule="cosine", warmup_fraction=0.25)
    assert found[10] == 1.0 and found[25] == pytest.approx(0.5) and 0 < found[39] < 0.01
    assert found[10:] == sorted(found[10:], reverse=True)


def test_step_multiplies_by_gamma_each_so_many_epochs_of_the_run() -> None:
    found = rates(schedule="step", lr_step_epochs=2, lr_gamma=0.1)
    assert found == pytest.approx([1.0] * 20 + [0.1] * 20)
    assert rates(schedule="step", lr_step_epochs=2, lr_gamma=0.1, warmup_fraction=0.25)[10:] == found[10:]


def test_the_rates_of_many_runs_are_those_of_each_to_the_last_bit() -> None:
    configs = [
        ImageClassificationHyperparameters(
            lr=lr, epochs=epochs, schedule=schedule, warmup_fraction=warmup, lr_gamma=gamma, lr_step_epochs=1
        )
        for schedule, lr, epochs, warmup, gamma in product(
            ("constant", "cosine", "step", "one_cycle"), (1e-3, 0.0123456789, 3.3e-5), (4, 5), (0.0, 0.13, 0.5), (0.1, 0.37)
        )
    ]
    found = learning_rates(configs, 7, 30, PER_EPOCH)
    assert found.dtype == torch.float64 and found.shape == (30, len(configs))
    for place, config in enumerate(configs):
        assert found[:, place].tolist() == [lr_at(step, PER_EPOCH, config) for step in range(7, 37)]


def test_runs_that_differ_only_in_their_peak_share_the_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Mock(side_effect=optimization._cosine)
    monkeypatch.setattr(optimization, "_cosine", calls)
    learning_rates(
        [ImageClassificationHyperparameters(lr=0.001 * (run + 1), epochs=4, schedule="cosine") for run in range(128)], 0, 10, PER_EPOCH
    )
    assert calls.call_count == 10


@pytest.mark.parametrize(("warmup", "rise"), [(0.0, 12), (0.5, 20)])
def test_one_cycle_rises_from_a_25th_to_the_peak_and_falls_to_a_250000th(warmup: float, rise: int) -> None:
    found = rates(schedule="one_cycle", warmup_fraction=warmup)
    assert found[0] == pytest.approx(1 / 25) and found[rise] == 1.0 == max(found)
    assert found[:rise] == sorted(found[:rise]) and found[rise:] == sorted(found[rise:], reverse=True)
    after = lr_at(40, PER_EPOCH, ImageClassificationHyperparameters(lr=1.0, epochs=4, schedule="one_cycle", warmup_fraction=warmup))
    assert after == pytest.approx(1 / 250_000)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "step", "one_cycle"])
@pytest.mark.parametrize("warmup", [0.0, 0.01, 0.99])
def test_every_rate_is_positive_and_at_most_the_peak(schedule: str, warmup: float) -> None:
    config = ImageClassificationHyperparameters(lr=0.5, epochs=1, schedule=schedule, warmup_fraction=warmup)
    for steps in (1, 2, 3, 50):
        found = [lr_at(step, steps, config) for step in range(steps)]
        assert all(0 < rate <= 0.5 and math.isfinite(rate) for rate in found)


def stepped(gradients: list[float], **values: Any) -> float:
    """Where a parameter at 1 comes to."""
    parameter = nn.Parameter(torch.ones(1))
    optimizer = make_optimizer([ParameterGroup([parameter])], ImageClassificationHyperparameters(lr=0.1, **values))
    for gradient in gradients:
        parameter.grad = torch.tensor([gradient])
        optimizer.step()
    return parameter.item()


def test_sgd_uses_momentum_and_weight_decay() -> None:
    assert stepped([1.0, 1.0], optimizer="sgd", momentum=0.5) == pytest.approx(1 - 0.1 - 0.15)
    assert stepped([0.0], optimizer="sgd", momentum=0.0, weight_decay=0.5) == pytest.approx(1 - 0.1 * 0.5)


def test_adam_adds_weight_decay_to_the_gradient_and_adamw_takes_it_from_the_parameter() -> None:
    assert stepped([0.0], optimizer="adam", weight_decay=0.5) == pytest.approx(0.9)  # a step of lr in the gradient's direction
    assert stepped([0.0], optimizer="adamw", weight_decay=0.5) == pytest.approx(1 - 0.1 * 0.5)


def test_rmsprop_uses_momentum() -> None:
    without, given = (stepped([1.0, 1.0], optimizer="rmsprop", momentum=momentum) for momentum in (0.0, 0.9))
    assert given < without < 1


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_adam_uses_its_betas(optimizer: str) -> None:
    """After a gradient of 1 the mean is 1 / (1 + beta1) of the way to the next one, which is 0."""
    first = 0.1
    for beta1, beta2 in ((0.9, 0.999), (0.5, 0.9)):
        second = 0.1 * (beta1 / (1 + beta1)) / math.sqrt(beta2 / (1 + beta2))
        assert stepped([1.0, 0.0], optimizer=optimizer, beta1=beta1, beta2=beta2) == pytest.approx(1 - first - second)


def test_adam_ignores_momentum() -> None:
    assert stepped([1.0, -0.5], optimizer="adam", momentum=0.1) == stepped([1.0, -0.5], optimizer="adam", momentum=0.9)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop"])
def test_steps_of_scaled_gradients_are_torchs_and_those_that_overflow_change_nothing(
    optimizer: Any, weight_decay: float, momentum: float
) -> None:
    """The first step overflows too, before there is any state."""
    draws = torch.Generator().manual_seed(1)
    start = [torch.randn(4, 3, generator=draws), torch.randn(7, generator=draws)]
    pairs = list[tuple[torch.optim.Optimizer, list[nn.Parameter]]]()
    for precision in ("float32", "float16"):
        own = [nn.Parameter(value.clone()) for value in start]
        config = ImageClassificationHyperparameters(
            optimizer=optimizer, weight_decay=weight_decay, momentum=momentum, lr=0.1, precision=precision
        )  # fmt: skip
        pairs.append((make_optimizer([ParameterGroup(own)], config), own))
    (plain, ours), (scaled, theirs) = pairs
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for overflows in (True, False, False, True, False, True):
        gradients = [torch.randn(value.shape, generator=draws) for value in start]
        before = [value.detach().clone() for value in theirs]
        for value, other, gradient in zip(ours, theirs, gradients, strict=True):
            value.grad, other.grad = gradient, scaler.scale(gradient)
        if overflows:
            theirs[1].grad[3] = float("inf")  # type: ignore[index]
        else:
            plain.step()
        scaler.step(scaled)
        scaler.update()
        assert all(torch.equal(one, two) for one, two in zip(theirs, before, strict=True)) == overflows
        assert all(torch.allclose(one, two, rtol=1e-5, atol=1e-6) for one, two in zip(ours, theirs, strict=True))
    assert {float(state["step"]) for state in scaled.state.values() if "step" in state} <= {3.0}
    assert scaled.state_dict()["state"].get(0, {}).keys() == plain.state_dict()["state"].get(0, {}).keys()
