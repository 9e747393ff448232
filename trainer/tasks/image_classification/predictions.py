"""What a run predicted for each test image, and each image's part in the metrics."""

import base64
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.tasks.image_classification.config import TestReport

Values = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Predictions:
    """Of one run on N test images, ordered by their true class and within it by content."""

    actual: Counts  # true class, shape (N,)
    predicted: Counts  # shape (N,)
    losses: Values  # cross entropy, nats, shape (N,)
    classes: int

    @classmethod
    def of(cls, report: TestReport) -> "Predictions | None":
        """Those of a report; None where it has none."""
        if report.predicted is None or report.losses is None or not report.confusion_matrix:
            return None
        counts = np.array(report.confusion_matrix, dtype=np.int64).sum(axis=1)
        return cls(
            actual=np.repeat(np.arange(len(counts)), counts),
            predicted=np.frombuffer(base64.b64decode(report.predicted), dtype="<u2").astype(np.int64),
            losses=np.frombuffer(base64.b64decode(report.losses), dtype="<f2").astype(np.float64),
            classes=len(counts),
        )

    def __len__(self) -> int:
        return len(self.actual)

    def are_those_of(self, other: "Predictions") -> bool:
        """Whether another run was scored on the same images."""
        return np.array_equal(self.actual, other.actual)

    def has_scores(self, metric: str) -> bool:
        """Whether the scores are finite: a loss may not be."""
        return metric != "loss" or bool(np.isfinite(self.losses).all())

    def scores(self, metric: str) -> Values:
        """Each image's part in the metric, shape (N,): right or wrong, its cross entropy, or a macro mean's pseudo-value."""
        if metric == "loss":
            return self.losses
        if metric == "accuracy":
            right: Values = (self.predicted == self.actual).astype(np.float64)
            return right
        cells, place = np.unique(self.actual * self.classes + self.predicted, return_inverse=True)
        scores: Values = _pseudo_values(self, metric, cells)[place]
        return scores


def _pseudo_values(found: Predictions, metric: str, cells: Counts) -> Values:
    """By cell of the confusion matrix, (K,): to leave out one image of a cell is to leave out any other."""
    hits = np.bincount(found.actual[found.actual == found.predicted], minlength=found.classes)
    actual, predicted = np.bincount(found.actual, minlength=found.classes), np.bincount(found.predicted, minlength=found.classes)
    row, column = cells // found.classes, cells % found.classes
    right = (row == column).astype(np.int64)
    share, present = _share(metric, hits, actual, predicted), (actual + predicted > 0).astype(np.int64)
    # Only the image's own class and the one it was taken for change; where they are one, both counts lose it.
    own = hits[row] - right, actual[row] - 1, predicted[row] - right
    other = hits[column] - right, actual[column] - right, predicted[column] - 1
    total = share.sum() - share[row] + _share(metric, *own)
    count = present.sum() - present[row] + (own[1] + own[2] > 0)
    wrong = 1 - right
    total = total + wrong * (_share(metric, *other) - share[column])
    count = count + wrong * ((other[1] + other[2] > 0).astype(np.int64) - present[column])
    whole, number = share.sum() / max(present.sum(), 1), len(found.actual)
    pseudo: Values = number * whole - (number - 1) * total / np.maximum(count, 1)
    return pseudo


def _share(metric: str, hits: Counts, actual: Counts, predicted: Counts) -> Values:
    """Of each class, as the trainer measures it; 0 where there is nothing to share."""
    match metric:
        case "recall":
            part, whole = hits, actual
        case "precision":
            part, whole = hits, predicted
        case "f1":
            part, whole = 2 * hits, actual + predicted
        case _:
            raise ValueError(f"{metric} is no macro mean")
    found: Values = part / np.maximum(whole, 1)
    return found
