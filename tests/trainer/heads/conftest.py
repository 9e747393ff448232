"""Heads and features for the tests."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainer.heads.ensemble import BatchedHeads, Traits
from trainer.heads.joint import IN_CACHE, JOINT, Execution
from trainer.heads.optimizers import Optimizers
from trainer.heads.stack import Stack, split_head
from trainer.models import StagedModel
from trainer.targets.classes.losses import HeadsCrossEntropy, TabulatedCrossEntropy
from trainer.tasks.image_classification.config import ImageClassificationConfig
from trainer.tasks.images.config import ImageData, ImageModel
from trainer.tasks.images.networks.factory import staged

CLASSES = 5


@dataclass(frozen=True)
class Subject:
    """A model, of which only the head is run, split for an ensemble that is computed in that way."""

    model: StagedModel
    prefix: nn.Module
    stack: Stack
    execution: Execution

    @property
    def names(self) -> list[str]:
        return list(self.model.tensors_of(self.model.head))

    def values(self, seeds: Sequence[int], dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
        drawn = [self.model.fresh_head(seed) for seed in seeds]
        return {name: torch.stack([own[name] for own in drawn]).to(dtype) for name in self.names}

    def heads(
        self, configs: Sequence[ImageClassificationConfig], dtype: torch.dtype = torch.float64, *, execution: Execution | None = None
    ) -> BatchedHeads:
        values, half = self.values([config.seed for config in configs], dtype), configs[0].precision == "bfloat16"
        return BatchedHeads(self.stack, values, self.traits(configs, dtype), execution or self.execution, half=half)

    def traits(self, configs: Sequence[ImageClassificationConfig], dtype: torch.dtype = torch.float64) -> Traits:
        return traits(configs, dtype, joint=self.execution.joint)


def traits(configs: Sequence[ImageClassificationConfig], dtype: torch.dtype = torch.float64, *, joint: bool = False) -> Traits:
    smoothing = [config.label_smoothing for config in configs]
    weighted = tuple(config.class_weights == "balanced" for config in configs)
    weights = torch.linspace(0.3, 2.0, CLASSES, dtype=dtype)
    loss: HeadsCrossEntropy | TabulatedCrossEntropy
    if joint:
        loss = TabulatedCrossEntropy(smoothing, weighted, weights)
    else:
        loss = HeadsCrossEntropy(smoothing=torch.tensor(smoothing, dtype=dtype), weighted=weighted, class_weights=weights)
    return Traits(dropout=tuple(config.dropout for config in configs), loss=loss)


def step(optimizers: Optimizers, rates: Tensor) -> None:
    """A round of one step with the learning rates [M]."""
    optimizers.begin(rates[None])
    optimizers.step(0)


def config_of(name: str = "small_cnn", **changes: Any) -> ImageClassificationConfig:
    return ImageClassificationConfig(data=ImageData(path="data"), model=ImageModel(name=name), **changes)


def subject_of(name: str, dtype: torch.dtype = torch.float64, execution: Execution = IN_CACHE) -> Subject:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = staged(name, CLASSES, 32).to(dtype)
    return Subject(model.freeze(len(model.stages)).eval(), *split_head(model), execution)


@pytest.fixture(params=["in cache", "joint"])
def subject(request: pytest.FixtureRequest) -> Callable[..., Subject]:
    """Makes a model by name; in float64, all of its stages frozen. Its heads are computed as on a CPU, or as on a GPU."""
    return partial(subject_of, execution=JOINT if request.param == "joint" else IN_CACHE)


@pytest.fixture
def head_config() -> Callable[..., ImageClassificationConfig]:
    """Makes a config; keywords are hyperparameters."""
    return config_of


SHARES = ("target_probability", "probability")


def same_reports(one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    """Assert that reports on classes are equal; probabilities of single examples may differ by rounding."""
    assert {**one, "worst_classes": None} == {**other, "worst_classes": None}
    for example, its in zip(one["worst_classes"], other["worst_classes"], strict=True):
        assert {**example, **dict.fromkeys(SHARES)} == {**its, **dict.fromkeys(SHARES)}
        assert [example[share] for share in SHARES] == pytest.approx([its[share] for share in SHARES], rel=1e-4)
