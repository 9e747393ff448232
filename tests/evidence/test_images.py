"""Each image's part in a score, against leaving it out in truth."""

import numpy as np
import pytest
import torch

from service.evidence.arms import Images
from service.evidence.images import scores_by_image
from trainer.metrics import measure

CLASSES = 5


def images(count: int, *, right: float = 0.6, last: int = 1) -> Images:
    """Of classes of unequal size; the last class has so few images, the one before it none."""
    rng = np.random.default_rng(0)
    actual = np.sort(np.append(rng.choice(3, count - last, p=[0.6, 0.3, 0.1]), np.full(last, CLASSES - 1)))
    predicted = np.where(rng.random(count) < right, actual, rng.integers(0, CLASSES, count))
    return Images(actual=actual, predicted=predicted, losses=rng.exponential(1, count), classes=CLASSES)


def value(one: Images, metric: str, rows: np.ndarray) -> float:
    """As the trainer measures it."""
    found = measure(torch.tensor(one.predicted[rows]), torch.tensor(one.actual[rows]), float(one.losses[rows].mean()), CLASSES)
    return found.scalars[metric]


@pytest.mark.parametrize("metric", ["accuracy", "loss", "recall", "precision", "f1"])
@pytest.mark.parametrize("right", [0.0, 0.6, 1.0])
def test_an_images_score_is_what_leaving_it_out_shows(metric: str, right: float) -> None:
    one, everyone = images(40, right=right), np.arange(40)
    whole = value(one, metric, everyone)
    left_out = [40 * whole - 39 * value(one, metric, np.delete(everyone, place)) for place in everyone]
    assert scores_by_image(one, metric) == pytest.approx(left_out, abs=1e-9)


@pytest.mark.parametrize("metric", ["accuracy", "loss", "recall", "precision", "f1"])
def test_the_mean_of_the_images_scores_is_the_metric(metric: str) -> None:
    one = images(4_000, last=200)
    assert scores_by_image(one, metric).mean() == pytest.approx(value(one, metric, np.arange(4_000)), abs=2e-2)


def test_a_metric_that_is_no_mean_of_classes_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="auc"):
        scores_by_image(images(10), "auc")
