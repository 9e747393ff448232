"""A run's label predictions for the test examples, and the contribution of each example to the metrics."""

from dataclasses import dataclass

import numpy as np

from trainer.targets.encoding import decode
from trainer.targets.jackknife import Flags, Values, auroc, average_precision, over_labels, pseudo_values, share
from trainer.targets.labels.config import LabelTestReport


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
                scores = over_labels(auroc, self.actual, self.logits)
            case "average_precision":
                scores = over_labels(average_precision, self.actual, self.logits)
            case _:
                scores = pseudo_values(*self._of_counts(metric))
        return scores

    def _of_counts(self, metric: str) -> tuple[float, Values]:
        """A metric of hits, examples and predictions by label: of all examples, and without each one."""
        each = np.stack([self.actual & self.predicted, self.actual, self.predicted]).astype(np.float64)  # (3, N, L)
        total = each.sum(1, keepdims=True)
        name, micro = metric.removeprefix("micro_"), metric.startswith("micro_")
        if micro:
            each, total = each.sum(2, keepdims=True), total.sum(2, keepdims=True)
        return float(share(name, *total).mean()), share(name, *(total - each)).mean(1)


def _flags(text: str, shape: tuple[int, ...]) -> Flags:
    bits = np.unpackbits(decode(text, "u1").astype(np.uint8), count=shape[0] * shape[1])
    flags: Flags = bits.astype(np.bool_).reshape(shape)
    return flags
