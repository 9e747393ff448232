"""The network, optimizer and learning rate of an exported script are those of the trainer."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torchvision.ops import StochasticDepth

import trainer.tasks.images.catalogue as catalogue
from service.exports.configuration import script
from tests.export.conftest import NOTHING, SIZE, exported_of, module_of, weights_of
from trainer.optimization import lr_at, make_optimizer, parameter_groups
from trainer.tasks.image_classification.config import ImageClassificationConfig
from trainer.tasks.images.config import ImageModel
from trainer.tasks.images.networks.factory import build, load
from trainer.tasks.images.task import Normalise

Config = Callable[..., ImageClassificationConfig]
CHEAP = ("squeezenet1_1", "resnet18", "shufflenet_v2_x0_5", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0")
DEAR = ("convnext_tiny",)  # Swin, ViT and VGG take seconds each


def made_of(config: ImageClassificationConfig) -> ModuleType:
    loaded = load(config.model)
    facts = {"weights": loaded.loaded, "weights_sha256": loaded.sha256} if loaded else {}
    return module_of(exported_of(config, NOTHING.model_copy(update=facts)))


def assert_builds_alike(config: ImageClassificationConfig) -> None:
    """The script's network has the trainer's weights, new layers of the same distribution, and trains the same parameters."""
    ours, theirs = made_of(config).build(config.model.weights), build(config, len(NOTHING.classes))
    expected = theirs.network.state_dict()
    assert ours.state_dict().keys() == expected.keys()
    for name, tensor in ours.state_dict().items():
        if name not in theirs.drawn:
            assert torch.equal(tensor, expected[name]), name
        elif tensor.numel() > 1000:  # drawn from the same distribution by another random state
            assert tensor.std().item() == pytest.approx(expected[name].std().item(), rel=0.1), name
    assert {n: p.requires_grad for n, p in ours.named_parameters()} == {n: p.requires_grad for n, p in theirs.network.named_parameters()}
    ours.load_state_dict(expected)
    pixels = torch.randint(0, 256, (2, 3, config.image_size, config.image_size), dtype=torch.uint8)
    inputs = Normalise(config, torch.device("cpu"))(pixels)
    assert torch.allclose(ours.eval()(inputs), theirs.eval()(inputs), atol=1e-4)


@pytest.mark.parametrize("model", CHEAP + DEAR)
def test_the_network_is_the_trainers(model: str, config: Config, tmp_path: Path) -> None:
    stages = len(catalogue.load(model).stages)
    for frozen, suffix in ((0, ".safetensors"), (stages // 2, ".pth")) if model in CHEAP else ((stages // 2, ".safetensors"),):
        file = weights_of(model, tmp_path, headless=stages % 2 == 0, suffix=suffix)
        assert_builds_alike(config(model=ImageModel(name=model, weights=str(file)), frozen_layers=frozen, dropout=0.3))


@pytest.mark.parametrize("model", ["squeezenet1_1", "mobilenet_v3_small"])
def test_layers_of_the_head_that_the_file_lacks_are_new(model: str, config: Config, tmp_path: Path) -> None:
    for headless in (True, False):
        assert_builds_alike(config(model=ImageModel(name=model, weights=str(weights_of(model, tmp_path, headless=headless)))))
    assert_builds_alike(config(model=ImageModel(name=model), dropout=0.5))


@pytest.mark.parametrize("model", ["mobilenet_v3_small", "shufflenet_v2_x0_5"])
def test_dropout_is_before_the_last_layer_and_only_in_training(model: str, config: Config) -> None:
    built = made_of(config(model=ImageModel(name=model), dropout=0.75)).build(None)
    last = built.get_submodule(catalogue.load(model).classifier[0].rpartition(".")[0])
    seen = list[torch.Tensor]()
    last.register_forward_hook(lambda layer, inputs, output: seen.append(inputs[0]))
    for _ in range(2):
        built(torch.randn(4, 3, SIZE, SIZE))
        built.eval()
    zeros = [float((inputs == 0).double().mean()) for inputs in seen]
    assert zeros[0] == pytest.approx(0.75 + 0.25 * zeros[1], abs=0.1) and zeros[1] < 0.6


@pytest.mark.parametrize("model", ["shufflenet_v2_x0_5", "efficientnet_b0"])
def test_frozen_stages_have_fixed_statistics_and_no_stochastic_depth(model: str, config: Config) -> None:
    chosen = config(model=ImageModel(name=model), frozen_layers=4)
    made, theirs = made_of(chosen), build(chosen, 3).train().network
    ours = made.build(None)
    for name, module in ours.named_modules():  # as in the script's loop
        module.train(not f"{name}.".startswith(made.FROZEN))
    changing = (torch.nn.BatchNorm2d, torch.nn.Dropout, StochasticDepth)
    states = [{name: part.training for name, part in one.named_modules() if isinstance(part, changing)} for one in (ours, theirs)]
    assert states[0] == states[1] and set(states[0].values()) == {True, False}


def test_bfloat16_is_that_of_autocast(config: Config) -> None:
    for precision, expected in (("bfloat16", torch.bfloat16), ("float32", torch.float32)):
        assert made_of(config(precision=precision)).build(None).eval()(torch.zeros(1, 3, SIZE, SIZE)).dtype == expected
    resolved = module_of(exported_of(config(precision="auto"), environment={"precision": "bfloat16"}))
    assert resolved.BFLOAT16 is True


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop", "adam", "adamw"])
def test_the_optimizer_has_the_trainers_coefficients(optimizer: str, config: Config) -> None:
    chosen = config(optimizer=optimizer, momentum=0.7, beta1=0.8, beta2=0.95, weight_decay=0.02, lr=0.003)
    made = module_of(exported_of(chosen))
    theirs = make_optimizer(parameter_groups(build(chosen, 3)), chosen)
    ours = made.OPTIMIZER([torch.nn.Parameter(torch.zeros(1))], **made.OPTIONS)
    assert type(ours) is type(theirs)
    of_speed = {"params", "fused", "foreach"}
    assert {k: v for k, v in ours.defaults.items() if k not in of_speed} == {k: v for k, v in theirs.defaults.items() if k not in of_speed}


SCHEDULES: tuple[Mapping[str, Any], ...] = (
    {"schedule": "constant"}, {"schedule": "constant", "warmup_fraction": 0.2}, {"schedule": "cosine"},
    {"schedule": "cosine", "warmup_fraction": 0.3}, {"schedule": "step", "lr_step_epochs": 2, "lr_gamma": 0.3},
    {"schedule": "step", "warmup_fraction": 0.1}, {"schedule": "one_cycle"}, {"schedule": "one_cycle", "warmup_fraction": 0.5},
    {"schedule": "cosine", "warmup_fraction": 0.99},
)  # fmt: skip


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_the_learning_rate_is_the_trainers_at_every_step(schedule: Mapping[str, Any], config: Config) -> None:
    chosen = config(lr=0.037, epochs=5, optimizer="sgd", **schedule)
    text, made = script(exported_of(chosen)), module_of(exported_of(chosen))
    lines = text[text.index("    optimizer = OPTIMIZER(") : text.index("    for epoch in range")]
    values = {**made.__dict__, "model": torch.nn.Linear(1, 1), "loader": range(7)}
    exec("if True:\n" + lines, values)  # noqa: S102
    rates = list[float]()
    for _ in range(35):
        rates.append(values["optimizer"].param_groups[0]["lr"])
        values["optimizer"].step()
        values["schedule"].step()
    assert rates == pytest.approx([lr_at(step, 7, chosen) for step in range(35)], abs=0.037 * 5e-6)
