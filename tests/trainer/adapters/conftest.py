"""Adapted networks of two small families: a ViT and a Swin, each of torchvision's classes with few and narrow layers."""

import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformer, SwinTransformerBlockV2
from torchvision.models.vision_transformer import VisionTransformer

from tests.conftest import SKIP_NOTHING
from trainer.adapters.adapt import adapt
from trainer.models import StagedModel
from trainer.tasks.images.config import ImageHyperparameters
from trainer.tasks.images.networks.families import SWIN, VIT, Family

CLASSES = 3
Adapt = Callable[..., StagedModel]


@pytest.fixture(autouse=True, scope="session")
def _peft() -> None:
    """Skips without PEFT; fails where nothing may be skipped."""
    if find_spec("peft") is None and not os.environ.get(SKIP_NOTHING):
        pytest.skip("needs thawline[text]")
    assert find_spec("peft") is not None, "peft is missing"


def _vit() -> nn.Module:
    network: nn.Module = VisionTransformer(
        image_size=16, patch_size=8, num_layers=4, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=CLASSES
    )
    return network


def _swin(**version: Any) -> nn.Module:
    network: nn.Module = SwinTransformer([4, 4], 8, [2, 2], [2, 4], [2, 2], stochastic_depth_prob=0.0, num_classes=CLASSES, **version)
    return network


MAKERS: dict[str, tuple[Family, Callable[[], nn.Module]]] = {
    "vit": (VIT, _vit),
    "swin": (SWIN, _swin),
    "swin_v2": (SWIN, lambda: _swin(block=SwinTransformerBlockV2, downsample_layer=PatchMergingV2)),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kind" in metafunc.fixturenames:
        metafunc.parametrize("kind", MAKERS)


def make(kind: str) -> StagedModel:
    """The network with the same random values at each call; biases and norms too, so that no term of a forward pass is 0."""
    family, maker = MAKERS[kind]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = maker()
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.3)
    return StagedModel(network, *family.split(network))


@pytest.fixture
def adapted() -> Adapt:
    """Makes the small network of a kind, adapted by a method; further arguments are hyperparameters."""

    def adapted(kind: str, method: str, **hyperparameters: Any) -> StagedModel:
        model = make(kind)
        config = ImageHyperparameters.model_validate({"method": method, **hyperparameters})
        return adapt(model, MAKERS[kind][0].blocks(model), config)

    return adapted


@pytest.fixture
def images() -> Tensor:
    return torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
