"""The network of a stand-alone script, and its learning rate, are the trainer's to the last bit."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

import trainer.tasks.image_classification.catalogue as catalogue
from tests.export.conftest import NOTHING, SIZE, exported_of, module_of, weights_of
from trainer.optimization import lr_at
from trainer.tasks.image_classification.config import ImageModel, ImageTrainConfig
from trainer.tasks.image_classification.networks.factory import build
from trainer.tasks.image_classification.task import Normalise

Config = Callable[..., ImageTrainConfig]
CHEAP = ("small_cnn", "squeezenet1_1", "resnet18", "shufflenet_v2_x0_5", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0")
DEAR = ("convnext_tiny",)  # Swin, ViT and VGG take seconds each; they were compared by hand


def assert_builds_alike(config: ImageTrainConfig) -> None:
    """The script's model has the trainer's values, trains the same parameters, and draws the same dropout."""
    file = config.model.weights if config.model.pretrained else None
    sha256 = None if file is None else hashlib.sha256(Path(file).read_bytes()).hexdigest()
    made = module_of(exported_of(config, NOTHING.model_copy(update={"weights_sha256": sha256})))
    ours, theirs = made.build(file, config.seed), build(config, len(NOTHING.classes))
    expected = theirs.network.state_dict()
    assert all(torch.equal(tensor, expected.pop(name)) for name, tensor in ours.state_dict().items()) and not expected
    assert {n: p.requires_grad for n, p in ours.named_parameters()} == {n: p.requires_grad for n, p in theirs.network.named_parameters()}
    made.set_training(ours)
    theirs.train()
    pixels = torch.randint(0, 256, (4, 3, config.image_size, config.image_size), dtype=torch.uint8)
    torch.manual_seed(1)
    logits = made.logits_of(ours, pixels)
    torch.manual_seed(1)
    assert torch.equal(logits, theirs(Normalise(config, torch.device("cpu"))(pixels)))


@pytest.mark.parametrize("model", CHEAP + DEAR)
def test_the_model_is_the_trainers_to_the_last_bit(model: str, config: Config, tmp_path: Path) -> None:
    stages = len(catalogue.load(model).stages)
    named = ImageModel(name=model, weights=str(weights_of(model, tmp_path, headless=stages % 2 == 0)))
    for frozen in (0, stages // 2, stages) if model in CHEAP else (stages // 2,):
        assert_builds_alike(config(model=named, image_size=SIZE, frozen_layers=frozen, dropout=0.3, seed=5))


@pytest.mark.parametrize("model", ["squeezenet1_1", "mobilenet_v3_small", "small_cnn"])
def test_the_head_is_made_anew_where_no_weights_are_for_it(model: str, config: Config, tmp_path: Path) -> None:
    for headless in (True, False):
        named = ImageModel(name=model, weights=str(weights_of(model, tmp_path, headless=headless)))
        assert_builds_alike(config(model=named, image_size=SIZE, frozen_layers=1))
    assert_builds_alike(config(model=ImageModel(name=model), image_size=SIZE, frozen_layers=1, dropout=0.5))


SCHEDULES: tuple[Mapping[str, Any], ...] = (
    {"schedule": "constant"}, {"schedule": "constant", "warmup_fraction": 0.2}, {"schedule": "cosine"},
    {"schedule": "cosine", "warmup_fraction": 0.3}, {"schedule": "step", "lr_step_epochs": 2, "lr_gamma": 0.3},
    {"schedule": "step", "warmup_fraction": 0.1}, {"schedule": "one_cycle"}, {"schedule": "one_cycle", "warmup_fraction": 0.5},
)  # fmt: skip


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_the_learning_rate_is_the_trainers_at_every_step(schedule: Mapping[str, Any], config: Config) -> None:
    chosen = config(lr=0.037, epochs=5, **schedule)
    made = module_of(exported_of(chosen))
    assert [made.lr_at(step, 7) for step in range(35)] == [lr_at(step, 7, chosen) for step in range(35)]
