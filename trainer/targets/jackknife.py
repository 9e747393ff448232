"""Jackknife pseudo-values (Tukey, Ann. Math. Stat. 29, 1958), and metrics without each example. Imports no torch."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]
LeaveOneOut = Callable[[Flags, Values], tuple[float, Values]]
"""Whether each of N examples has a label, and its score → a metric, and the metric without each example (N,). NaN where it is undefined."""


def pseudo_values(whole: float, without: Values) -> Values:
    """From a metric of N examples, and the metric without each example (N,)."""
    return len(without) * whole - (len(without) - 1) * without


def share(metric: str, hits: NDArray[Any], actual: NDArray[Any], predicted: NDArray[Any]) -> Values:
    """Precision, recall or F1 of counts of equal shape; 0 where the denominator is 0. Raises ValueError for another metric."""
    match metric:
        case "recall":
            part, whole = hits, actual
        case "precision":
            part, whole = hits, predicted
        case "f1":
            part, whole = 2 * hits, actual + predicted
        case _:
            raise ValueError(f"{metric} is no share of counts")
    found: Values = part / np.maximum(whole, 1)
    return found


def over_labels(metric: LeaveOneOut, actual: Flags, scores: Values) -> Values:
    """Pseudo-values (N,) of the mean of the metric over those of L labels for which it is defined. Labels and scores are (N, L)."""
    pairs = [metric(own, column) for own, column in zip(actual.T, scores.T, strict=True)]
    whole = np.array([value for value, _ in pairs])
    without = np.stack([values for _, values in pairs])  # (L, N), NaN where it is not defined
    known = ~np.isnan(without)
    means = np.where(known, without, 0).sum(0) / np.maximum(known.sum(0), 1)
    return pseudo_values(float(np.nanmean(whole)) if not np.isnan(whole).all() else 0.0, means)


def auroc(actual: Flags, scores: Values) -> tuple[float, Values]:
    """The area under the curve of one label, and the area without each example (N,). NaN without examples of both kinds.

    The area is the mean over pairs of one example with and one without the label of 1, 1/2 or 0, for a greater, equal or smaller score.
    So the area without an example follows from the sum of that example's own pairs. Source: DeLong et al., Biometrics 44, 1988.
    """
    positive, negative = np.sort(scores[actual]), np.sort(scores[~actual])
    m, n = len(positive), len(negative)
    below = (np.searchsorted(negative, scores, "left") + np.searchsorted(negative, scores, "right")) / 2
    above = m - (np.searchsorted(positive, scores, "left") + np.searchsorted(positive, scores, "right")) / 2
    own, total = np.where(actual, below, above), float(below[actual].sum())
    pairs = np.where(actual, (m - 1) * n, m * (n - 1))
    without = np.where(pairs > 0, (total - own) / np.maximum(pairs, 1), np.nan)
    return total / (m * n) if m and n else np.nan, without


def average_precision(actual: Flags, scores: Values) -> tuple[float, Values]:
    """The average precision of one label, and the same without each example (N,). NaN without an example that has the label.

    It is the mean, over the examples with the label, of the share of examples with the label among those with at least their score. Of an
    example that is left out, only the shares of examples with at most its score change.
    """
    order = np.argsort(-scores, kind="stable")
    ordered, has = scores[order], actual[order].astype(np.float64)
    last = np.searchsorted(-ordered, -ordered, "right")  # examples with at least this score, (N,)
    first = np.searchsorted(-ordered, -ordered, "left")
    hits, m = np.append(0.0, np.cumsum(has))[last], float(has.sum())
    if not m:
        return np.nan, np.full(len(scores), np.nan)
    kept = has * hits / last  # summands
    # Below an example, ties included, one fewer example counts, with the label or without it.
    fewer = np.maximum(last - 1, 1)
    without_other, without_hit = has * hits / fewer, has * (hits - 1) / fewer
    sums = [np.append(np.cumsum(summand[::-1])[::-1], 0.0) for summand in (without_other, without_hit)]
    above = np.append(0.0, np.cumsum(kept))[first]  # summands of examples with a greater score do not change
    of_other = (above + sums[0][first]) / m
    of_hit = (above + sums[1][first] - has * (hits - 1) / fewer) / max(m - 1, 1)
    found = np.empty(len(scores))
    found[order] = np.where(has > 0, of_hit if m > 1 else np.nan, of_other)
    return float(kept.sum() / m), found
