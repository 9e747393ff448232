"""A run's predictions for the test examples, and the contribution of each example to the metrics."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from trainer.targets.classes.config import ACCURACIES, ClassTestReport
from trainer.targets.encoding import decode
from trainer.targets.jackknife import Values, share

Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Predictions:
    """The predictions of one run on N test examples, ordered by true class and within it by content."""

    actual: Counts  # true class, shape (N,)
    predicted: Counts  # shape (N,)
    losses: Values  # cross entropy, nats, shape (N,)
    classes: int
    contributions: Mapping[str, Values] = field(default_factory=dict)  # to metrics that need more than the predicted class, each (N,)

    @classmethod
    def of(cls, report: ClassTestReport) -> "Predictions | None":
        """The predictions in a report; None if it has none."""
        if report.predicted is None or report.losses is None or not report.confusion_matrix:
            return None
        counts = np.array(report.confusion_matrix, dtype=np.int64).sum(axis=1)
        return cls(
            actual=np.repeat(np.arange(len(counts)), counts),
            predicted=decode(report.predicted, "<u2").astype(np.int64),
            losses=decode(report.losses, "<f2"),
            classes=len(counts),
            contributions={name: decode(text, "<f2") for name, text in (report.scores or {}).items()},
        )

    def __len__(self) -> int:
        return len(self.actual)

    def are_those_of(self, other: "Predictions") -> bool:
        """Whether another run was scored on the same examples."""
        return np.array_equal(self.actual, other.actual)

    def has_scores(self, metric: str) -> bool:
        """Whether the report has scores of the metric, and all are finite."""
        if metric in STORED:
            return metric in self.contributions and bool(np.isfinite(self.contributions[metric]).all())
        return metric != "loss" or bool(np.isfinite(self.losses).all())

    def scores(self, metric: str) -> Values:
        """Each example's contribution to the metric, shape (N,), whose mean estimates the metric.

        accuracy and its equals: 1 or 0; loss: the example's cross entropy; another metric: the example's jackknife pseudo-value.
        """
        if metric == "loss":
            return self.losses
        if metric in STORED:
            return self.contributions[metric]
        if metric in ACCURACIES:
            right: Values = (self.predicted == self.actual).astype(np.float64)
            return right
        cells, place = np.unique(self.actual * self.classes + self.predicted, return_inverse=True)
        of_cells = _pseudo_values if metric in MACRO_MEANS else _recounted
        scores: Values = of_cells(self, metric, cells)[place]
        return scores


STORED = frozenset({"top_5_accuracy", "auroc", "average_precision", "ece"})
MACRO_MEANS = frozenset({"precision", "recall", "f1"})


def _recounted(found: Predictions, metric: str, cells: Counts) -> Values:
    """Jackknife pseudo-values by cell of the confusion matrix, (K,), from the counts without one example of the cell."""
    hits = np.bincount(found.actual[found.actual == found.predicted], minlength=found.classes)
    actual, predicted = np.bincount(found.actual, minlength=found.classes), np.bincount(found.predicted, minlength=found.classes)
    number = len(found.actual)
    whole = _of_counts(metric, hits, actual, predicted)
    without = np.empty(len(cells))
    for place, (row, column) in enumerate(zip(*np.divmod(cells, found.classes), strict=True)):
        counts = hits.copy(), actual.copy(), predicted.copy()
        counts[0][row] -= row == column
        counts[1][row] -= 1
        counts[2][column] -= 1
        without[place] = _of_counts(metric, *counts)
    return number * whole - (number - 1) * without


def _of_counts(metric: str, hits: Counts, actual: Counts, predicted: Counts) -> float:
    """A metric of counts by class, as in `trainer.targets.classes.measuring.measure`."""
    number = max(int(actual.sum()), 1)
    match metric:
        case "balanced_accuracy":
            return float(share("recall", hits, actual, predicted).sum() / max(int((actual > 0).sum()), 1))
        case "weighted_precision":
            return float(share("precision", hits, actual, predicted) @ actual / number)
        case "weighted_f1":
            return float(share("f1", hits, actual, predicted) @ actual / number)
        case "matthews":
            spread = float(number**2 - predicted @ predicted) * float(number**2 - actual @ actual)
            return float(hits.sum() * number - actual @ predicted) / math.sqrt(spread) if spread > 0 else 0.0
        case _:
            raise ValueError(f"{metric} does not follow from counts by class")


def _pseudo_values(found: Predictions, metric: str, cells: Counts) -> Values:
    """Jackknife pseudo-values (Tukey 1958) of a macro mean, by cell of the confusion matrix, (K,).

    A macro mean t is not a mean over examples, so an example has no score of its own. Its pseudo-value is n t - (n - 1) t(i), with t(i) the
    metric without example i. Examples of one cell, equal in true and predicted class, have equal t(i), so it is computed for each cell.
    """
    hits = np.bincount(found.actual[found.actual == found.predicted], minlength=found.classes)
    actual, predicted = np.bincount(found.actual, minlength=found.classes), np.bincount(found.predicted, minlength=found.classes)
    row, column = cells // found.classes, cells % found.classes
    right = (row == column).astype(np.int64)
    shares, present = share(metric, hits, actual, predicted), (actual + predicted > 0).astype(np.int64)
    # Without the example only two summands of the macro mean change: its true class (`own`) and its predicted class (`other`). For a right
    # prediction both are the same class, and only `own` is exchanged (`wrong` is 0).
    own = hits[row] - right, actual[row] - 1, predicted[row] - right
    other = hits[column] - right, actual[column] - right, predicted[column] - 1
    total = shares.sum() - shares[row] + share(metric, *own)
    count = present.sum() - present[row] + (own[1] + own[2] > 0)
    wrong = 1 - right
    total = total + wrong * (share(metric, *other) - shares[column])
    count = count + wrong * ((other[1] + other[2] > 0).astype(np.int64) - present[column])
    whole, number = shares.sum() / max(present.sum(), 1), len(found.actual)
    pseudo: Values = number * whole - (number - 1) * total / np.maximum(count, 1)
    return pseudo
