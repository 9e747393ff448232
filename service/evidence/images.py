"""What each test image contributed to a run's score."""

import numpy as np
from numpy.typing import NDArray

from service.evidence.arms import Images
from service.evidence.crossed import Values

Counts = NDArray[np.int64]


def scores_by_image(images: Images, metric: str) -> Values:
    """Each image's part in the metric, shape (N,); their mean is the metric, for macro means but for a bias of the order 1/N.

    Right or wrong for the accuracy, the cross entropy for the loss, and for macro means the jackknife's pseudo-value: N times the metric
    of all images less N - 1 times that of all but this one. Source: Tukey, Ann. Math. Stat. 29, 1958; Efron, The Jackknife, 1982.
    """
    if metric == "loss":
        return images.losses
    if metric == "accuracy":
        right: Values = (images.predicted == images.actual).astype(np.float64)
        return right
    cells, place = np.unique(images.actual * images.classes + images.predicted, return_inverse=True)
    scores: Values = _pseudo_values(images, metric, cells)[place]
    return scores


def _pseudo_values(images: Images, metric: str, cells: Counts) -> Values:
    """By cell of the confusion matrix, (K,): to leave out one image of a cell is to leave out any other."""
    hits = np.bincount(images.actual[images.actual == images.predicted], minlength=images.classes)
    actual, predicted = np.bincount(images.actual, minlength=images.classes), np.bincount(images.predicted, minlength=images.classes)
    row, column = cells // images.classes, cells % images.classes
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
    whole, number = share.sum() / max(present.sum(), 1), len(images.actual)
    pseudo: Values = number * whole - (number - 1) * total / np.maximum(count, 1)
    return pseudo


def _share(metric: str, hits: Counts, actual: Counts, predicted: Counts) -> Values:
    """Of each class, as trainer.metrics.measure_lanes has it; 0 where there is nothing to share."""
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
