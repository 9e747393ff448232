"""Heads of many lanes at once do what torch's modules do for each."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.trainer.heads.conftest import step as step_once
from tests.trainer.heads.conftest import traits
from trainer.heads.ensemble import BatchedHeads, _rows
from trainer.heads.layers import Noise
from trainer.heads.optimizers import Optimizers
from trainer.heads.stack import UnsupportedHead, split_head
from trainer.models import StagedModel
from trainer.optimization import make_optimizer, parameter_groups
from trainer.pooling import TokenScale
from trainer.stopwatch import Stopwatch
from trainer.targets.classes.losses import HeadsCrossEntropy
from trainer.tasks.image_classification.config import ImageClassificationConfig
from trainer.tasks.images.networks.families import BY_MODEL

HEADS = {  # family and shape of the last stage's output: one of each kind of head
    "squeezenet1_1": (512, 3, 3), "small_cnn": (64, 2, 2), "convnext_tiny": (768, 1, 1), "swin_t": (2, 2, 768),
    "vit_b_32": (50, 768), "mobilenet_v3_small": (576, 2, 2), "shufflenet_v2_x0_5": (1024, 2, 2),
}  # fmt: skip
BATCH = 6


def answers(heads: BatchedHeads, features: Tensor) -> Tensor:
    return torch.cat([logits for _, logits in heads.outputs(features)])  # [L, C, B]


def load(model: StagedModel, values: dict[str, Tensor], lane: int) -> None:
    model.network.load_state_dict({name: tensor[lane] for name, tensor in values.items()}, strict=False)


@pytest.fixture
def batch() -> Callable[..., tuple[Tensor, Tensor]]:
    def make(shape: tuple[int, ...], seed: int = 0, size: int = BATCH) -> tuple[Tensor, Tensor]:
        random = torch.Generator().manual_seed(seed)
        return torch.randn(size, *shape, generator=random, dtype=torch.float64), torch.randint(0, 5, (size,), generator=random)

    return make


@pytest.mark.parametrize(("name", "shape"), HEADS.items())
def test_lanes_answer_as_each_module_does(name: str, shape: tuple[int, ...], subject: Any, head_config: Any, batch: Any) -> None:
    own = subject(name)
    configs = [head_config(name, seed=seed) for seed in range(3)]
    heads, (outputs, _) = own.heads(configs), batch(shape)
    found = answers(heads, own.prefix(outputs))
    for lane, config in enumerate(configs):
        own.model.network.load_state_dict(own.model.fresh_head(config.seed), strict=False)
        with torch.no_grad():
            assert torch.allclose(found[lane].T, own.model.head(outputs), rtol=1e-10, atol=1e-10)


def every_kind(head_config: Callable[..., ImageClassificationConfig], name: str) -> list[ImageClassificationConfig]:
    """Each optimizer with and without momentum, weight decay, label smoothing and class weights; learning rates and betas of their own."""
    choices = product(("sgd", "adam", "adamw", "rmsprop"), (0.0, 0.9), (0.0, 0.03), (0.0, 0.1))
    return [
        head_config(
            name, seed=seed, optimizer=kind, momentum=momentum, weight_decay=decay, label_smoothing=smoothing, lr=0.01 / (seed + 1),
            beta1=0.5 if decay else 0.9, beta2=0.9 if smoothing else 0.999, class_weights="balanced" if seed % 3 == 1 else "none",
        )
        for seed, (kind, momentum, decay, smoothing) in enumerate(choices)
    ]  # fmt: skip


@pytest.mark.parametrize(("name", "shape"), HEADS.items())
def test_after_several_steps_each_lane_is_where_torch_s_optimizer_and_autograd_bring_the_module(
    name: str, shape: tuple[int, ...], subject: Any, head_config: Any, batch: Any
) -> None:
    own, steps = subject(name), 4
    configs = every_kind(head_config, name)[:: 1 if name == "small_cnn" else 5]
    heads, stopwatch = own.heads(configs), Stopwatch()
    first = {title: parameter.value.clone() for title, parameter in heads.parameters.items()}
    optimizers = Optimizers(configs, heads.parameters, heads.flat)
    losses, gradients = [], []
    optimizers.begin(torch.tensor([[config.lr / (step + 1) for config in configs] for step in range(steps)], dtype=torch.float64))
    for step in range(steps):
        outputs, labels = batch(shape, seed=step)
        losses.append(heads.learn(own.prefix(outputs), labels, Noise(step, torch.device("cpu")), stopwatch))
        gradients.append({title: parameter.gradient.clone() for title, parameter in heads.parameters.items()})
        optimizers.step(step)
    order = [title for title, tensor in own.model.network.named_parameters() if tensor.requires_grad]
    for lane, config in enumerate(configs):
        load(own.model, first, lane)
        theirs = make_optimizer(parameter_groups(own.model), config)
        weighting = traits([config]).loss
        assert isinstance(weighting, HeadsCrossEntropy) and weighting.class_weights is not None
        for step in range(steps):
            outputs, labels = batch(shape, seed=step)
            loss = F.cross_entropy(own.model.head(outputs), labels, label_smoothing=config.label_smoothing, reduction="none")
            loss = (loss * weighting.class_weights[labels]).mean() if config.class_weights == "balanced" else loss.mean()
            assert float(losses[step][lane]) == pytest.approx(float(loss.detach()), rel=1e-10)
            theirs.param_groups[0]["lr"] = config.lr / (step + 1)
            theirs.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            for title, parameter in own.model.network.named_parameters():
                if parameter.requires_grad:
                    assert torch.allclose(gradients[step][title][lane].view_as(parameter), parameter.grad, rtol=1e-9, atol=1e-10), title
            theirs.step()
        state = own.model.network.state_dict()
        for title, parameter in heads.parameters.items():
            assert torch.allclose(parameter.value[lane], state[title], rtol=1e-9, atol=1e-10), (config.optimizer, title)
        same_state(optimizers.moments.exported(lane, order), theirs.state_dict())


def same_state(found: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Equal in form, and in value within rounding."""
    assert found["param_groups"][0].keys() == theirs["param_groups"][0].keys()
    assert found["param_groups"][0]["params"] == theirs["param_groups"][0]["params"]
    kept = {index: {name: value for name, value in state.items() if value is not None} for index, state in theirs["state"].items()}
    assert found["state"].keys() == {index for index, state in kept.items() if state}
    for index, state in found["state"].items():
        assert state.keys() == kept[index].keys()
        for name, value in state.items():
            assert torch.allclose(value, kept[index][name], rtol=1e-9, atol=1e-10), name


def test_an_optimizer_goes_on_from_what_was_exported(subject: Any, head_config: Any, batch: Any) -> None:
    own, order = subject("small_cnn"), ["classifier.weight", "classifier.bias"]
    for config in every_kind(head_config, "small_cnn"):
        first, second = own.heads([config]), own.heads([config])
        ahead, behind = Optimizers([config], first.parameters, first.flat), Optimizers([config], second.parameters, second.flat)
        for number in range(4):
            outputs, labels = batch((64, 2, 2), seed=number)
            if number == 2:
                for title, parameter in first.parameters.items():
                    second.parameters[title].value.copy_(parameter.value)
                behind.load(0, ahead.moments.exported(0, order), order, ahead.done)
            for heads, optimizers in ((first, ahead), (second, behind))[: 2 if number >= 2 else 1]:
                heads.learn(own.prefix(outputs), labels, Noise(number, torch.device("cpu")), Stopwatch())
                step_once(optimizers, torch.full((1,), config.lr, dtype=torch.float64))
        assert all(torch.equal(parameter.value, second.parameters[title].value) for title, parameter in first.parameters.items())


def test_lanes_that_are_kept_go_on_as_if_the_others_were_still_there(subject: Any, head_config: Any, batch: Any) -> None:
    own, configs = subject("small_cnn"), every_kind(head_config, "small_cnn")
    whole = own.heads(configs)
    lanes = [lane for lane in range(len(configs)) if lane % 3 != 1]
    optimizers = Optimizers(configs, whole.parameters, whole.flat)

    def learn(heads: BatchedHeads, steps: Optimizers, seed: int, rates: list[float]) -> None:
        outputs, labels = batch((64, 2, 2), seed=seed)
        heads.learn(own.prefix(outputs), labels, Noise(seed, torch.device("cpu")), Stopwatch())
        step_once(steps, torch.tensor(rates, dtype=torch.float64))

    learn(whole, optimizers, 0, [config.lr for config in configs])
    kept = whole.kept(lanes, own.traits([configs[lane] for lane in lanes]))
    fewer = optimizers.kept(lanes, kept.parameters, kept.flat)
    for seed in (1, 2):
        learn(whole, optimizers, seed, [config.lr for config in configs])
        learn(kept, fewer, seed, [configs[lane].lr for lane in lanes])
    for title, parameter in kept.parameters.items():
        assert torch.allclose(parameter.value, whole.parameters[title].value[lanes], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["small_cnn", "squeezenet1_1", "mobilenet_v3_small"])
def test_each_lane_drops_at_its_own_rate_and_keeps_the_mean(name: str, subject: Any, head_config: Any) -> None:
    rates = (0.0, 0.0, 0.2, 0.5, 0.5, 0.7, 0.9)
    own = subject(name)
    heads = own.heads([head_config(name, seed=1, dropout=rate) for rate in rates])
    features = own.prefix(torch.ones(64, *HEADS[name], dtype=torch.float64))
    part = heads._parts_of(torch.ones(64 * 9, 1))[0]
    noise = Noise(1, torch.device("cpu"))
    rows, places = _rows(features)
    drawn = torch.stack([part.forward(rows, places, noise).squeeze(2) for _ in range(30)])  # [times, L, C, B]
    plain = answers(heads, features)
    assert torch.allclose(drawn[0, 0], drawn[0, 1]) and torch.allclose(drawn[0, 0], plain[0], rtol=1e-6)
    assert torch.allclose(drawn[:, 3], drawn[:, 4]), "the same rate drops the same"
    spread = drawn.std(dim=(0, 3)).mean(1)
    assert (spread[2] < spread[3] < spread[5] < spread[6]) and spread[2] > 0


def test_dropout_s_gradient_is_that_of_what_was_kept(subject: Any, head_config: Any, batch: Any) -> None:
    for name in ("small_cnn", "mobilenet_v3_small", "squeezenet1_1", "convnext_tiny"):
        own, rates = subject(name), (0.0, 0.3, 0.3, 0.5, 0.6)
        heads = own.heads([head_config(name, seed=seed, dropout=rate) for seed, rate in enumerate(rates)])
        outputs, labels = batch(HEADS[name])
        features = own.prefix(outputs)

        def loss_of(heads: BatchedHeads = heads, features: Tensor = features, labels: Tensor = labels) -> Tensor:
            return heads.learn(features, labels, Noise(7, torch.device("cpu")), Stopwatch())

        loss_of()
        gradients = {title: parameter.gradient.clone() for title, parameter in heads.parameters.items()}
        for title, parameter in heads.parameters.items():
            gradient, place, small = gradients[title], (slice(None), 0), 1e-6
            before = parameter.value[place].clone()
            step = torch.randn(before.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
            parameter.value[place] = before + small * step
            above = loss_of()
            parameter.value[place] = before - small * step
            below = loss_of()
            parameter.value[place] = before
            expected = (gradient[place] * step).reshape(len(rates), -1).sum(1)
            assert torch.allclose((above - below) / (2 * small), expected, rtol=1e-4, atol=1e-7), name


def test_lanes_gone_through_group_by_group_see_the_same(subject: Any, head_config: Any, batch: Any) -> None:
    own = subject("squeezenet1_1")
    configs = [head_config(seed=seed, dropout=(0.0, 0.2, 0.2, 0.4, 0.5)[seed]) for seed in range(5)]
    features, labels = batch((512, 3, 3))
    whole, parts = own.heads(configs), own.heads(configs, execution=replace(own.execution, activation_bytes=1))
    losses = whole.learn(features, labels, Noise(3, torch.device("cpu")), Stopwatch())
    assert torch.allclose(parts.learn(features, labels, Noise(3, torch.device("cpu")), Stopwatch()), losses, rtol=1e-12)
    assert len(parts._parts_of(features.flatten(1))) == 5
    for title, parameter in whole.parameters.items():
        assert torch.allclose(parameter.gradient, parts.parameters[title].gradient, rtol=1e-10, atol=1e-14)


def test_half_precision_answers_as_autocast_does_within_its_rounding(subject: Any, head_config: Any, batch: Any) -> None:
    for name in ("squeezenet1_1", "mobilenet_v3_small"):
        own = subject(name, torch.float32)
        config = head_config(name, seed=1)
        values = own.values([1], torch.float32)
        heads = BatchedHeads(own.stack, values, own.traits([config], torch.float32), own.execution, half=True)
        outputs, labels = batch(HEADS[name])
        outputs = outputs.float()
        load(own.model, values, 0)
        with torch.autocast("cpu", torch.bfloat16):
            logits = own.model.head(outputs).float()
        exact = own.model.head(outputs)
        found = answers(heads, own.prefix(outputs))[0].T
        assert not torch.equal(found, exact) and (found - exact).abs().max() < 3 * (logits - exact).abs().max()
        heads.learn(own.prefix(outputs), labels, Noise(0, torch.device("cpu")), Stopwatch())
        own.model.zero_grad()
        F.cross_entropy(exact, labels).backward()  # type: ignore[no-untyped-call]
        gradient = own.model.network.get_parameter(BY_MODEL[name].classifier_tensors[0]).grad
        assert gradient is not None
        mine = heads.parameters[BY_MODEL[name].classifier_tensors[0]].gradient[0]
        assert (mine - gradient).norm() < 0.02 * gradient.norm() and config.precision == "float32"


def test_a_head_with_an_unknown_layer_is_not_for_lanes() -> None:
    for layers in (
        [nn.Linear(4, 4), nn.Softplus(), nn.Linear(4, 2)],
        [nn.Conv2d(4, 2, 3)],
        [nn.Linear(4, 4), TokenScale(nn.LayerNorm(4)), nn.Linear(4, 2)],
        [nn.BatchNorm1d(4), nn.Linear(4, 2)],
        [nn.Conv2d(4, 2, 1), nn.Flatten(1)],
        [nn.ReLU()],
    ):
        head = nn.Sequential(*layers)
        with pytest.raises(UnsupportedHead):
            split_head(StagedModel(head, {}, head))
