"""Each image's part in a score, against leaving it out in truth."""

import numpy as np
import pytest
import torch

from trainer.targets.classes.measuring import measure
from trainer.targets.classes.predictions import Predictions

CLASSES = 5
OF_COUNTS = [
    "accuracy", "loss", "recall", "precision", "f1", "balanced_accuracy", "micro_precision", "micro_recall", "micro_f1",
    "weighted_precision", "weighted_recall", "weighted_f1", "matthews",
]  # fmt: skip


def images(count: int, *, right: float = 0.6, last: int = 1) -> Predictions:
    """Of classes of unequal size; the last class has so few images, the one before it none."""
    rng = np.random.default_rng(0)
    actual = np.sort(np.append(rng.choice(3, count - last, p=[0.6, 0.3, 0.1]), np.full(last, CLASSES - 1)))
    predicted = np.where(rng.random(count) < right, actual, rng.integers(0, CLASSES, count))
    return Predictions(actual=actual, predicted=predicted, losses=rng.exponential(1, count), classes=CLASSES)


def value(one: Predictions, metric: str, rows: np.ndarray) -> float:
    """As the trainer measures it."""
    predicted, actual, losses = (torch.tensor(column[rows]) for column in (one.predicted, one.actual, one.losses))
    tallies = torch.stack((predicted.double(), losses, torch.ones_like(losses), (predicted == actual).double()), -1)
    (found,) = measure(tallies[None], actual, CLASSES)
    return found[metric]


@pytest.mark.parametrize("metric", OF_COUNTS)
@pytest.mark.parametrize("right", [0.0, 0.6, 1.0])
def test_an_images_score_is_what_leaving_it_out_shows(metric: str, right: float) -> None:
    one, everyone = images(40, right=right), np.arange(40)
    whole = value(one, metric, everyone)
    left_out = [40 * whole - 39 * value(one, metric, np.delete(everyone, place)) for place in everyone]
    assert one.scores(metric) == pytest.approx(left_out, abs=1e-9)


@pytest.mark.parametrize("metric", OF_COUNTS)
def test_the_mean_of_the_images_scores_is_the_metric(metric: str) -> None:
    one = images(4_000, last=200)
    assert one.scores(metric).mean() == pytest.approx(value(one, metric, np.arange(4_000)), abs=2e-2)


def test_results_of_earlier_versions_have_scores_of_what_follows_from_the_predictions() -> None:
    one = images(10)
    assert not any(one.has_scores(metric) for metric in ("top_5_accuracy", "auroc", "average_precision", "ece")) and one.has_scores(
        "matthews"
    )


def test_a_metric_that_is_no_mean_of_classes_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="auc"):
        images(10).scores("auc")
