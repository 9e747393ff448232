"""Heads and features for the tests."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainer.heads.ensemble import BatchedHeads, Traits
from trainer.heads.layers import Stack, split_head
from trainer.models import StagedModel
from trainer.tasks.image_classification.config import ImageData, ImageModel, ImageTrainConfig
from trainer.tasks.image_classification.networks.factory import staged
from trainer.tasks.image_classification.task import HeadsCrossEntropy

CLASSES = 5


@dataclass(frozen=True)
class Subject:
    """A model, of which only the head is run, split for an ensemble."""

    model: StagedModel
    prefix: nn.Module
    stack: Stack

    @property
    def names(self) -> list[str]:
        return list(self.model.tensors_of(self.model.head))

    def values(self, seeds: Sequence[int], dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
        drawn = [self.model.fresh_head(seed) for seed in seeds]
        return {name: torch.stack([own[name] for own in drawn]).to(dtype) for name in self.names}

    def heads(self, configs: Sequence[ImageTrainConfig], dtype: torch.dtype = torch.float64) -> BatchedHeads:
        return BatchedHeads(self.stack, self.values([config.seed for config in configs], dtype), traits(configs, dtype))


def traits(configs: Sequence[ImageTrainConfig], dtype: torch.dtype = torch.float64) -> Traits:
    smoothing = torch.tensor([config.label_smoothing for config in configs], dtype=dtype)
    weighted = tuple(config.class_weights == "balanced" for config in configs)
    weights = torch.linspace(0.3, 2.0, CLASSES, dtype=dtype)
    loss = HeadsCrossEntropy(smoothing=smoothing, weighted=weighted, class_weights=weights)
    return Traits(dropout=tuple(config.dropout for config in configs), loss=loss)


def config_of(name: str = "small_cnn", **changes: Any) -> ImageTrainConfig:
    return ImageTrainConfig(data=ImageData(path="data"), model=ImageModel(name=name), **changes)


def subject_of(name: str, dtype: torch.dtype = torch.float64) -> Subject:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = staged(name, CLASSES, 32).to(dtype)
    return Subject(model.freeze(len(model.stages)).eval(), *split_head(model))


@pytest.fixture
def subject() -> Callable[..., Subject]:
    """Makes a model by name; in float64, all of its stages frozen."""
    return subject_of


@pytest.fixture
def head_config() -> Callable[..., ImageTrainConfig]:
    """Makes a config; keywords are hyperparameters."""
    return config_of
