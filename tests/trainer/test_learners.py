"""What the training loop relies on, for both learners."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from trainer.cache import Cache
from trainer.checkpoints import TrainingState
from trainer.heads import HeadEnsemble
from trainer.learners import Learner, Member, MemberState, ModelLearner
from trainer.loop import Build
from trainer.preparation import Expected, prepare, taken
from trainer.stopwatch import Stopwatch
from trainer.tasks.image_classification.config import ImageClassificationConfig
from trainer.tasks.images.config import ImageModel
from trainer.tasks.images.networks.factory import build

Configure = Callable[..., ImageClassificationConfig]
RATE = torch.full((4, 1), 0.01, dtype=torch.float64)
pytestmark = pytest.mark.parametrize("build", [ModelLearner.build, HeadEnsemble.build], ids=["model", "heads"])


@pytest.fixture
def config(configure: Configure, tmp_path: Path) -> ImageClassificationConfig:
    """Of a run of the head alone, which both learners can train."""
    file = tmp_path / "weights.pt"
    torch.save(build(configure(), 3).network.state_dict(), file)
    return configure(model=ImageModel(name="small_cnn", weights=str(file)), frozen_layers=4, optimizer="adamw")


class Trained:
    """A learner, and steps of it on the first images."""

    def __init__(self, config: ImageClassificationConfig, build: Build) -> None:
        self.task = prepare(config, torch.device("cpu"), Expected(), Cache.none())
        self.learner: Learner
        self.learner, self.inputs = build(self.task, [Member(config=self.task.config)], Cache.none(), Stopwatch())

    def step(self) -> torch.Tensor:
        self.learner.begin(1, RATE)
        rows = self.task.training[:8]
        return self.learner.step(0, self.inputs.batch(rows, 0), taken(self.task.targets, rows))[0]


def plain(state: MemberState) -> Any:
    """With tensors as lists, so that states can be compared."""

    def plain(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value.tolist()
        return {key: plain(item) for key, item in value.items()} if isinstance(value, dict) else value

    return plain(dict(state.model)), plain(dict(state.optimizer))


def test_a_snapshot_does_not_change_with_later_steps(config: ImageClassificationConfig, build: Build) -> None:
    trained = Trained(config, build)
    trained.step()
    snapshot = trained.learner.snapshot()
    before = plain(snapshot(0))
    trained.step()
    assert plain(snapshot(0)) == before != plain(trained.learner.snapshot()(0))


def test_a_learner_that_is_restored_takes_the_next_step_as_the_one_before_would_have(
    config: ImageClassificationConfig, build: Build
) -> None:
    first, second = Trained(config, build), Trained(config, build)
    for _ in range(2):
        first.step()
    model, optimizer, _ = first.learner.snapshot()(0)
    second.learner.restore({0: TrainingState(step=1, run="", model=model, optimizer=optimizer, train_loss=0.0, lr=0.0, seconds=0.0)}, 2)
    assert torch.equal(first.step(), second.step())
    assert plain(first.learner.snapshot()(0)) == plain(second.learner.snapshot()(0))


def test_a_parameter_that_is_not_finite_is_found(config: ImageClassificationConfig, build: Build) -> None:
    trained = Trained(config, build)
    assert trained.learner.finite() == [True]
    model, optimizer, _ = trained.learner.snapshot()(0)
    broken = {name: tensor.clone() for name, tensor in model.items()}
    broken["classifier.weight"][1, 2] = torch.inf
    trained.step()
    optimizer = trained.learner.snapshot()(0).optimizer
    trained.learner.restore({0: TrainingState(step=1, run="", model=broken, optimizer=optimizer, train_loss=0.0, lr=0.0, seconds=0.0)}, 1)
    assert trained.learner.finite() == [False]
