"""Class weights and even sampling, in the trainer's own loop."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.trainer.narrowed import image_info
from trainer.cache import Cache
from trainer.loop import train
from trainer.models import StagedModel
from trainer.order import drawn_evenly
from trainer.preparation import Expected, PreparedRun, prepare
from trainer.protocol import Finished
from trainer.targets.classes.losses import CrossEntropy, balanced_weights
from trainer.tasks.image_classification.config import ImageClassificationConfig
from trainer.tasks.image_classification.task import TASK
from trainer.tasks.images.config import ImageData

CPU = torch.device("cpu")
Configure = Callable[..., ImageClassificationConfig]


@pytest.fixture
def unequal(paint: Callable[..., Path]) -> Path:
    """Sixty painted squares less fifteen red ones."""
    root = paint()
    for image in sorted((root / "red").iterdir())[5:]:
        image.unlink()
    return root


def prepared(config: ImageClassificationConfig) -> PreparedRun:
    return prepare(config, CPU, Expected(), Cache.none())


def test_facts_count_the_images_of_each_class_in_each_part(configure: Configure, unequal: Path) -> None:
    facts = image_info(prepared(configure(data=ImageData(path=str(unequal), test=0.2))).info)
    assert facts.class_counts == {"train": (12, 12, 3), "validation": (4, 4, 1), "test": (4, 4, 1)}


def test_even_sampling_draws_each_class_equally_often() -> None:
    labels = torch.tensor([0] * 95 + [1] * 5)
    rows = torch.arange(1000, 1100)
    for epoch in (1, 2):
        drawn = drawn_evenly(rows, labels, 7, epoch)
        assert len(drawn) == 100 and labels[drawn - 1000].bincount().tolist() == [50, 50]
    assert torch.equal(drawn_evenly(rows, labels, 7, 1), drawn_evenly(rows, labels, 7, 1))
    assert not torch.equal(drawn_evenly(rows, labels, 7, 1), drawn_evenly(rows, labels, 7, 2))
    assert not torch.equal(drawn_evenly(rows, labels, 7, 1), drawn_evenly(rows, labels, 8, 1))


def test_what_does_not_divide_differs_by_one_at_most() -> None:
    labels = torch.tensor([0, 0, 0, 0, 1, 2, 2, 4])  # no image of class 3
    counts = labels[drawn_evenly(torch.arange(8), labels, 0, 1)].bincount(minlength=5).tolist()
    assert sorted(counts) == [0, 2, 2, 2, 2] and counts[3] == 0
    labels = labels[:7]
    counts = labels[drawn_evenly(torch.arange(7), labels, 0, 1)].bincount().tolist()
    assert sorted(counts) == [2, 2, 3]


def test_an_epoch_has_as_many_batches_as_without_sampling(configure: Configure, unequal: Path) -> None:
    data = ImageData(path=str(unequal))
    plain, drawn = prepared(configure(data=data)), prepared(configure(data=data, sampling="balanced"))
    assert [len(rows) for rows in plain.batches_of(1)] == [len(rows) for rows in drawn.batches_of(1)]


def test_weights_are_those_of_scikit_learn(configure: Configure, unequal: Path) -> None:
    task = prepared(configure(data=ImageData(path=str(unequal))))
    labels = task.training_targets
    expected = [len(labels) / (3 * int((labels == label).sum())) for label in range(3)]
    weights = balanced_weights(labels, 3)
    assert weights.tolist() == pytest.approx(expected)
    assert float(weights[labels].mean()) == pytest.approx(1.0)


def test_the_weight_of_a_class_multiplies_the_losses_of_its_images() -> None:
    logits, labels, weights = torch.randn(6, 3), torch.tensor([0, 1, 2, 2, 0, 1]), torch.tensor([0.5, 1.0, 4.0])
    each = torch.stack([F.cross_entropy(logits[row : row + 1], labels[row : row + 1], label_smoothing=0.1) for row in range(6)])
    model = StagedModel(nn.Identity(), {}, nn.Identity())
    losses, counts = TASK.loss(model, logits, 0, labels, CrossEntropy(0.1, weights))
    assert losses.tolist() == pytest.approx((each * weights[labels]).tolist()) and counts.tolist() == [1] * 6
    losses, _ = TASK.loss(model, logits, 0, labels, CrossEntropy(0.1, None))
    assert losses.tolist() == pytest.approx(each.tolist())


@pytest.mark.parametrize("change", [{"class_weights": "balanced"}, {"sampling": "balanced"}])
def test_rare_classes_are_found_more_often(configure: Configure, unequal: Path, change: dict[str, str]) -> None:
    def recall(**changes: str) -> float:
        facts = train(configure(data=ImageData(path=str(unequal)), epochs=3, lr=2e-3, **changes), device=CPU)
        return float(next(fact for fact in facts if isinstance(fact, Finished)).report["per_class_recall"]["red"])

    assert recall(**change) >= recall()


def test_configs_without_them_are_written_as_in_version_0_1(configure: Configure) -> None:
    written = configure().model_dump_json()
    assert "class_weights" not in written and "sampling" not in written
    assert ImageClassificationConfig.model_validate_json(written) == configure()
    changed = configure(sampling="balanced")
    assert ImageClassificationConfig.model_validate_json(changed.model_dump_json()) == changed
