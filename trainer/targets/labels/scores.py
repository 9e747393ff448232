"""A run's label predictions for the test examples, and the contribution of each example to the metrics."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.targets.encoding import decode
from trainer.targets.labels.config import LabelTestReport

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelPredictions:
    """The predictions of one run on N test examples with L labels, ordered by content."""

    actual: Flags  # (N, L)
    predicted: Flags  # (N, L)
    logits: Values  # (N, L)

    @classmethod
    def of(cls, report: LabelTestReport) -> "LabelPredictions | None":
        """The predictions in a report; None if it has none."""
        if report.target_bits is None or report.predicted_bits is None or report.logits is None:
            return None
        logits = decode(report.logits, "<f2").reshape(-1, len(report.per_label))
        actual, predicted = (_flags(text, logits.shape) for text in (report.target_bits, report.predicted_bits))
        return cls(actual=actual, predicted=predicted, logits=logits)

    def __len__(self) -> int:
        return len(self.actual)

    def are_those_of(self, other: "LabelPredictions") -> bool:
        """Whether another run was scored on the same examples."""
        return np.array_equal(self.actual, other.actual)

    def has_scores(self, metric: str) -> bool:
        """Whether all scores of the metric are finite."""
        return metric not in ("loss", "auroc", "average_precision") or bool(np.isfinite(self.logits).all())

    def scores(self, metric: str) -> Values:
        """Each example's contribution to the metric, shape (N,), whose mean estimates the metric.

        loss, hamming and subset_accuracy: the example's own; all others: jackknife pseudo-values (Tukey 1958).
        """
        scores: Values
        match metric:
            case "loss":
                scores = (np.logaddexp(0, self.logits) - self.actual * self.logits).mean(1)
            case "hamming":
                scores = (self.actual != self.predicted).mean(1)
            case "subset_accuracy":
                scores = (self.actual == self.predicted).all(1).astype(np.float64)
            case "auroc":
                scores = self._pseudo_values(*_by_label(self, _auroc))
            case "average_precision":
                scores = self._pseudo_values(*_by_label(self, _average_precision))
            case _:
                scores = self._pseudo_values(*self._of_counts(metric))
        return scores

    def _pseudo_values(self, whole: float, without: Values) -> Values:
        """From the metric of all examples, and (N,) the metric without each example."""
        return len(self) * whole - (len(self) - 1) * without

    def _of_counts(self, metric: str) -> tuple[float, Values]:
        """A metric of hits, predictions and examples by label: of all examples, and without each one."""
        each = np.stack([self.actual & self.predicted, self.predicted, self.actual]).astype(np.float64)  # (3, N, L)
        total = each.sum(1, keepdims=True)
        name, micro = metric.removeprefix("micro_"), metric.startswith("micro_")
        if micro:
            each, total = each.sum(2, keepdims=True), total.sum(2, keepdims=True)
        return float(_share(name, total).mean()), _share(name, total - each).mean(1)


def _flags(text: str, shape: tuple[int, ...]) -> Flags:
    bits = np.unpackbits(decode(text, "u1").astype(np.uint8), count=shape[0] * shape[1])
    flags: Flags = bits.astype(np.bool_).reshape(shape)
    return flags


def _share(metric: str, counts: Values) -> Values:
    """The metric from hits, predictions and examples (3, ...); 0 where the denominator is 0."""
    hits, predicted, actual = counts
    match metric:
        case "recall":
            part, whole = hits, actual
        case "precision":
            part, whole = hits, predicted
        case "f1":
            part, whole = 2 * hits, actual + predicted
        case _:
            raise ValueError(f"{metric} is no metric of labels")
    found: Values = part / np.maximum(whole, 1)
    return found


LeaveOneOut = Callable[[Flags, Values], tuple[float, Values]]


def _by_label(found: LabelPredictions, of_label: LeaveOneOut) -> tuple[float, Values]:
    """The mean over the labels for which the metric is defined: of all examples, and without each one, (N,)."""
    pairs = [of_label(actual, logits) for actual, logits in zip(found.actual.T, found.logits.T, strict=True)]
    whole = np.array([value for value, _ in pairs])
    without = np.stack([values for _, values in pairs])  # (L, N), NaN where it is not defined
    known = ~np.isnan(without)
    means = np.where(known, without, 0).sum(0) / np.maximum(known.sum(0), 1)
    return float(np.nanmean(whole)) if not np.isnan(whole).all() else 0.0, means


def _auroc(actual: Flags, logits: Values) -> tuple[float, Values]:
    """The area under the curve of one label, and the area without each example (N,). NaN without examples of both kinds.

    The area is the mean over pairs of one example with and one without the label of 1, 1/2 or 0, for a greater, equal or smaller logit.
    So the area without an example follows from the sum of that example's own pairs. Source: DeLong et al., Biometrics 44, 1988.
    """
    positive, negative = np.sort(logits[actual]), np.sort(logits[~actual])
    m, n = len(positive), len(negative)
    below = (np.searchsorted(negative, logits, "left") + np.searchsorted(negative, logits, "right")) / 2
    above = m - (np.searchsorted(positive, logits, "left") + np.searchsorted(positive, logits, "right")) / 2
    own, total = np.where(actual, below, above), float(below[actual].sum())
    pairs = np.where(actual, (m - 1) * n, m * (n - 1))
    without = np.where(pairs > 0, (total - own) / np.maximum(pairs, 1), np.nan)
    return total / (m * n) if m and n else np.nan, without


def _average_precision(actual: Flags, logits: Values) -> tuple[float, Values]:
    """The average precision of one label, and the same without each example (N,). NaN without an example that has the label.

    It is the mean, over the examples with the label, of the share of examples with the label among those with at least their logit. Of an
    example that is left out, only the shares of examples with at most its logit change.
    """
    order = np.argsort(-logits, kind="stable")
    ordered, has = logits[order], actual[order].astype(np.float64)
    last = np.searchsorted(-ordered, -ordered, "right")  # examples with at least this logit, (N,)
    first = np.searchsorted(-ordered, -ordered, "left")
    hits, m = np.append(0.0, np.cumsum(has))[last], float(has.sum())
    if not m:
        return np.nan, np.full(len(logits), np.nan)
    kept = has * hits / last  # summands
    # Below an example, ties included, one fewer example counts, with the label or without it.
    fewer = np.maximum(last - 1, 1)
    without_other, without_hit = has * hits / fewer, has * (hits - 1) / fewer
    sums = [np.append(np.cumsum(summand[::-1])[::-1], 0.0) for summand in (without_other, without_hit)]
    above = np.append(0.0, np.cumsum(kept))[first]  # summands of examples with a greater logit do not change
    of_other = (above + sums[0][first]) / m
    of_hit = (above + sums[1][first] - has * (hits - 1) / fewer) / max(m - 1, 1)
    found = np.empty(len(logits))
    found[order] = np.where(has > 0, of_hit if m > 1 else np.nan, of_other)
    return float(kept.sum() / m), found
