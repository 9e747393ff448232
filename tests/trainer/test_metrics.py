"""Metrics against figures worked out by hand, and against torchmetrics."""

import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torchmetrics.functional import classification as tm

from trainer.targets.classes.config import ClassReport
from trainer.targets.classes.target import measure, report_of
from trainer.tasks.image_classification.spec import SPEC

ACTUAL = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2])
PREDICTED = torch.tensor([0, 0, 0, 1, 1, 2, 2, 0])


def measured(predicted: torch.Tensor, actual: torch.Tensor, loss: float, classes: int) -> tuple[Mapping[str, float], ClassReport]:
    """Of one model whose loss is the same for each image."""
    (metrics,) = measure(predicted[None], actual, torch.full((1, len(actual)), loss), classes)
    return metrics, report_of(predicted, actual, "abcdef"[:classes])


def test_metrics_of_a_small_case_are_those_worked_out_by_hand() -> None:
    metrics, report = measured(PREDICTED, ACTUAL, 0.75, classes=3)
    assert report.confusion_matrix == ((3, 1, 0), (0, 1, 1), (1, 0, 1))
    assert report.per_class_recall == {"a": 0.75, "b": 0.5, "c": 0.5}
    assert metrics["accuracy"] == pytest.approx(5 / 8)
    assert metrics["recall"] == pytest.approx((0.75 + 0.5 + 0.5) / 3)
    assert metrics["precision"] == pytest.approx((3 / 4 + 1 / 2 + 1 / 2) / 3)
    assert metrics["f1"] == pytest.approx((0.75 + 0.5 + 0.5) / 3)
    assert metrics["loss"] == 0.75


def test_a_class_that_is_never_predicted_counts_with_zero() -> None:
    metrics, report = measured(torch.zeros(4, dtype=torch.int64), torch.tensor([0, 0, 1, 1]), 1.0, classes=2)
    assert metrics["precision"] == pytest.approx(0.25) and metrics["recall"] == pytest.approx(0.5)
    assert report.per_class_recall == {"a": 1.0, "b": 0.0}


def test_the_metrics_are_those_that_a_study_may_name() -> None:
    assert measured(PREDICTED, ACTUAL, 0.5, classes=3)[0].keys() == SPEC.metrics.keys()


@pytest.mark.parametrize("seed", range(5))
def test_many_models_at_once_have_the_metrics_that_torchmetrics_gives_each(seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    classes, lanes = 6, 4
    actual = torch.randint(0, classes - 1, (30,), generator=random)  # the last class has no image
    predicted = torch.randint(0, classes - seed % 2, (lanes, 30), generator=random)
    losses = torch.rand((lanes, 30), generator=random)
    for lane, metrics in enumerate(measure(predicted, actual, losses, classes)):
        named = {
            "accuracy": ("accuracy", "micro"),
            "precision": ("precision", "macro"),
            "recall": ("recall", "macro"),
            "f1": ("f1_score", "macro"),
        }
        theirs = {
            name: float(getattr(tm, f"multiclass_{metric}")(predicted[lane], actual, num_classes=classes, average=average))
            for name, (metric, average) in named.items()
        }
        assert metrics == pytest.approx(theirs | {"loss": float(losses[lane].mean())})
        report = report_of(predicted[lane], actual, "abcdef")
        recalls = list(report.per_class_recall.values())
        assert recalls == pytest.approx(tm.multiclass_recall(predicted[lane], actual, classes, average="none").tolist())
        assert list(map(list, report.confusion_matrix)) == tm.multiclass_confusion_matrix(predicted[lane], actual, classes).tolist()


class Largest(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The most numbers in a tensor that an operation inside the `with` block returns."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if isinstance(found, torch.Tensor):
            self.count = max(self.count, found.numel())
        return found


def test_the_counts_of_many_models_stay_small() -> None:
    """Confusion matrices of 64 models of 500 classes would hold 16 million numbers."""
    random, models, classes, images = torch.Generator().manual_seed(0), 64, 500, 1_000
    predicted, actual = (
        torch.randint(0, classes, (models, images), generator=random),
        torch.randint(0, classes, (images,), generator=random),
    )
    largest = Largest()  # type: ignore[no-untyped-call]
    with largest:
        measure(predicted, actual, torch.zeros(models, images), classes)
    assert 0 < largest.count <= 2 * models * max(classes, images)


def test_the_trainer_does_not_wait_for_torchmetrics_to_be_imported() -> None:
    code = "import sys, trainer.tasks.image_classification.task; sys.exit('torchmetrics' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
