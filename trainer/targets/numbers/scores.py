"""A run's residuals on the test examples, and the contribution of each example to the metrics."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.targets.encoding import decode
from trainer.targets.numbers.config import NumberTestReport

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Residuals:
    """Residuals (prediction less target) and targets of N test examples, ordered by content."""

    residuals: Values  # (N,)
    targets: Values  # (N,)

    @classmethod
    def of(cls, report: NumberTestReport) -> "Residuals | None":
        """The residuals in a report; None if it has none."""
        if report.residual_values is None or report.target_values is None:
            return None
        return cls(decode(report.residual_values, "<f4"), decode(report.target_values, "<f4"))

    def __len__(self) -> int:
        return len(self.targets)

    def are_those_of(self, other: "Residuals") -> bool:
        """Whether another run was scored on the same examples."""
        return np.array_equal(self.targets, other.targets)

    def has_scores(self, metric: str) -> bool:
        """Whether all scores of the metric are finite."""
        return bool(np.isfinite(self.residuals).all()) and len(self) > 2

    def scores(self, metric: str) -> Values:
        """Each example's contribution to the metric, shape (N,).

        mae: the absolute residual. rmse, r2, pearson: jackknife pseudo-values. spearman: the metric plus the example's influence, which
        is its pseudo-value up to order 1/N, because the ranks of all other examples change when one is left out.
        """
        if metric == "mae":
            return np.abs(self.residuals)
        if metric == "spearman":
            return _spearman(self.targets + self.residuals, self.targets)
        each, count = _sums_of(self.residuals, self.targets), len(self)
        total = each.sum(1, keepdims=True)
        scores: Values = count * _metric(metric, total, count) - (count - 1) * _metric(metric, total - each, count - 1)
        return scores


def _sums_of(residuals: Values, targets: Values) -> Values:
    """The summands of every metric, (6, N): squared residual; target, prediction, their squares and product, each less its mean."""
    predicted = targets + residuals
    # Centred, so that sums of squares do not cancel for targets far from 0.
    y, p = targets - targets.mean(), predicted - predicted.mean()
    return np.stack([residuals**2, y, p, y * y, p * p, y * p])


def _metric(name: str, sums: Values, count: int) -> Values:
    """The metric from sums over `count` examples, (6, ...)."""
    squares, y, p, yy, pp, yp = sums
    found: Values
    match name:
        case "rmse":
            found = np.sqrt(np.maximum(squares, 0) / count)
        case "r2":
            found = 1 - _quotient(squares, yy - y * y / count, empty=1.0)
        case "pearson":
            found = _quotient(yp - y * p / count, np.sqrt(np.maximum(yy - y * y / count, 0) * np.maximum(pp - p * p / count, 0)))
        case _:
            raise ValueError(f"{name} is no metric of regression")
    return found


def _quotient(part: Values, whole: Values, empty: float = 0.0) -> Values:
    """The quotient; `empty` where the denominator is 0 up to rounding."""
    tiny = 1e-12 * max(float(np.abs(whole).max()), 1e-300)
    found: Values = np.where(whole > tiny, part / np.where(whole > tiny, whole, 1), empty)
    return found


def _spearman(x: Values, y: Values) -> Values:
    """The correlation of ranks plus the influence of each example on it, (N,); their mean is the correlation.

    With R_j the rank of x_j divided by N, S_j that of y_j, both centred: C = mean(R S), A = mean(R²), B = mean(S²), and the correlation is
    C / √(A B). Weight moved to example i changes R_j in proportion to w_ij - R_j, w_ij being 1 for x_i < x_j and 1/2 for x_i = x_j. So
        influence on C   R_i S_i - C + mean_j(w_ij S_j) + mean_j(v_ij R_j)
        influence on A   R_i² - A + 2 mean_j(w_ij R_j)
    each up to a constant, which is removed: influences have the mean 0. Source: Croux and Dehon, Stat. Methods Appl. 19, 2010.
    """
    r, s = _centred_ranks(x), _centred_ranks(y)
    c, a, b = float((r * s).mean()), float((r * r).mean()), float((s * s).mean())
    if a <= 0 or b <= 0:
        return np.zeros(len(x))
    of_c = r * s + _mean_above(x, s) + _mean_above(y, r)
    of_a, of_b = r * r + 2 * _mean_above(x, r), s * s + 2 * _mean_above(y, s)
    root, metric = np.sqrt(a * b), c / np.sqrt(a * b)
    influence = of_c / root - metric / 2 * (of_a / a + of_b / b)
    scores: Values = metric + influence - influence.mean()
    return scores


def _centred_ranks(values: Values) -> Values:
    """Ranks, the mean of ties, divided by their number, less their mean."""
    ordered = np.sort(values)
    ranks = (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")) / (2 * len(values))
    found: Values = ranks - ranks.mean()
    return found


def _mean_above(values: Values, of: Values) -> Values:
    """For each i: the sum of `of` over the j with values[j] > values[i], and half of it for equal ones, divided by their number."""
    order = np.argsort(values, kind="stable")
    ordered, sums = values[order], np.append(np.cumsum(of[order][::-1])[::-1], 0.0)  # sums[k]: of all from place k on
    first, last = np.searchsorted(ordered, values, "left"), np.searchsorted(ordered, values, "right")
    found: Values = (sums[first] + sums[last]) / (2 * len(values))
    return found
