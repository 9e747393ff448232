"""Metrics against figures worked out by hand, and against torchmetrics."""

import subprocess
import sys

import pytest
import torch
from torchmetrics.functional import classification as tm

from trainer.contract import METRICS
from trainer.metrics import confusions, measure, measure_lanes

ACTUAL = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2])
PREDICTED = torch.tensor([0, 0, 0, 1, 1, 2, 2, 0])


def test_metrics_of_a_small_case_are_those_worked_out_by_hand() -> None:
    found = measure(PREDICTED, ACTUAL, 0.75, classes=3)
    assert found.confusion_matrix == ((3, 1, 0), (0, 1, 1), (1, 0, 1))
    assert found.per_class_recall == pytest.approx((0.75, 0.5, 0.5))
    assert found.scalars["accuracy"] == pytest.approx(5 / 8)
    assert found.scalars["recall"] == pytest.approx((0.75 + 0.5 + 0.5) / 3)
    assert found.scalars["precision"] == pytest.approx((3 / 4 + 1 / 2 + 1 / 2) / 3)
    assert found.scalars["f1"] == pytest.approx((0.75 + 0.5 + 0.5) / 3)
    assert found.scalars["loss"] == 0.75


def test_a_class_that_is_never_predicted_counts_with_zero() -> None:
    found = measure(torch.zeros(4, dtype=torch.int64), torch.tensor([0, 0, 1, 1]), 1.0, classes=2)
    assert found.scalars["precision"] == pytest.approx(0.25) and found.scalars["recall"] == pytest.approx(0.5)
    assert found.per_class_recall == (1.0, 0.0)


def test_the_metrics_are_those_that_a_study_may_name() -> None:
    assert measure(PREDICTED, ACTUAL, 0.5, classes=3).scalars.keys() == METRICS.keys()


@pytest.mark.parametrize("seed", range(5))
def test_many_models_at_once_have_the_metrics_that_torchmetrics_gives_each(seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    classes, lanes = 6, 4
    actual = torch.randint(0, classes - 1, (30,), generator=random)  # the last class has no image
    predicted = torch.randint(0, classes - seed % 2, (lanes, 30), generator=random)
    losses = torch.rand(lanes, generator=random)
    for lane, found in enumerate(measure_lanes(confusions(predicted, actual, classes), losses)):
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
        assert found.scalars == pytest.approx(theirs | {"loss": float(losses[lane])})
        assert found.per_class_recall == pytest.approx(tm.multiclass_recall(predicted[lane], actual, classes, average="none").tolist())
        assert found.confusion_matrix == tuple(map(tuple, tm.multiclass_confusion_matrix(predicted[lane], actual, classes).tolist()))


def test_the_trainer_does_not_wait_for_torchmetrics_to_be_imported() -> None:
    code = "import sys, trainer.metrics; sys.exit('torchmetrics' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
