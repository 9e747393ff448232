"""Metrics against figures worked out by hand."""

import pytest
import torch

from trainer.contract import METRICS
from trainer.metrics import measure

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
