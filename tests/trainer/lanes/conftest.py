"""Heads and features for the tests."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainer.contract import DataConfig, ModelConfig, TrainConfig
from trainer.lanes.head import Heads, Traits
from trainer.lanes.split import Stack, split_head
from trainer.models.build import fresh_head, staged
from trainer.models.staged import StagedModel

CLASSES = 5


@dataclass(frozen=True)
class Subject:
    """A model, of which only the head is run, with what lanes make of it."""

    model: StagedModel
    prefix: nn.Module
    stack: Stack

    @property
    def names(self) -> list[str]:
        return list(self.model.tensors_of(self.model.head))

    def values(self, seeds: Sequence[int], dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
        drawn = [fresh_head(self.model, seed) for seed in seeds]
        return {name: torch.stack([own[name] for own in drawn]).to(dtype) for name in self.names}

    def heads(self, configs: Sequence[TrainConfig], dtype: torch.dtype = torch.float64) -> Heads:
        return Heads(self.stack, self.values([config.seed for config in configs], dtype), traits(configs, dtype))


def traits(configs: Sequence[TrainConfig], dtype: torch.dtype = torch.float64) -> Traits:
    smoothing = torch.tensor([config.label_smoothing for config in configs], dtype=dtype)
    return Traits(dropout=tuple(config.dropout for config in configs), smoothing=smoothing)


def config_of(name: str = "small_cnn", **changes: Any) -> TrainConfig:
    return TrainConfig(data=DataConfig(path="data"), model=ModelConfig(name=name), **changes)


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
def head_config() -> Callable[..., TrainConfig]:
    """Makes a config; keywords are hyperparameters."""
    return config_of
