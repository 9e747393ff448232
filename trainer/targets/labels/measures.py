"""Metrics and the loss of multi-label tasks, for one model and for many."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.targets.ranking import LabelRanking

THRESHOLDS = tuple(step / 100 for step in range(1, 100))  # candidates


@dataclass(frozen=True, slots=True, eq=False)
class LabelCounts:
    """Counts of each of M models by label, float64 [M, L]."""

    hits: Tensor  # examples that have the label and for which it is predicted
    predicted: Tensor
    actual: Tensor

    @property
    def f1(self) -> Tensor:
        """By label; 0 where the denominator is 0, likewise the other two."""
        return share(2 * self.hits, self.predicted + self.actual)

    @property
    def precision(self) -> Tensor:
        """By label."""
        return share(self.hits, self.predicted)

    @property
    def recall(self) -> Tensor:
        """By label."""
        return share(self.hits, self.actual)

    @property
    def total(self) -> "LabelCounts":
        """Sums over the labels, [M, 1]."""
        return LabelCounts(*(part.sum(1, keepdim=True) for part in (self.hits, self.predicted, self.actual)))


def share(part: Tensor, whole: Tensor) -> Tensor:
    """The quotient in float64; 0 where the denominator is 0 (the numerator is 0 there too)."""
    return part.double() / whole.clamp(min=1)


def choose_thresholds(labels: Sequence[LabelRanking]) -> list[float]:
    """The threshold of each of M models with the largest macro F1. Of equally good ones the one nearest to 0.5."""
    candidates = torch.tensor(THRESHOLDS, dtype=torch.float64)
    reached = candidates.logit().to(labels[0].having)
    f1 = torch.zeros((len(labels[0].having), len(THRESHOLDS)), dtype=torch.float64, device=reached.device)
    for own in labels:
        hits, predicted = own.reaching(reached)
        f1 += share(2 * hits, predicted + own.having.shape[1])
    nearest = (candidates - 0.5).abs().argsort(stable=True)
    best = f1.round(decimals=12).cpu()[:, nearest].argmax(1)  # rounded: sums of equal terms may differ in the last bit
    return [THRESHOLDS[place] for place in nearest[best].tolist()]


def predict(logits: Tensor, thresholds: Sequence[float]) -> Tensor:
    """Logits [M, N, L] → predicted labels, bool of the same shape: those whose probability reaches the threshold of the model."""
    return logits >= torch.tensor(thresholds, dtype=torch.float64).logit().to(logits)[:, None, None]


def count(predicted: Tensor, actual: Tensor) -> LabelCounts:
    """Predicted labels bool [M, N, L] and labels [N, L] → counts."""
    hits, own = (predicted & actual).sum(1).double(), actual.sum(0).double()
    return LabelCounts(hits, predicted.sum(1).double(), own.expand_as(hits))


def losses_of(logits: Tensor, actual: Tensor, pos_weight: Tensor | None = None) -> Tensor:
    """Binary cross entropy in nats, the mean over the labels: logits float32 [..., L] and labels [..., L] → [...].

    `pos_weight` [L] multiplies the loss of the labels that an example has.
    """
    target = actual.to(logits.dtype)
    return F.binary_cross_entropy_with_logits(logits, target.expand_as(logits), reduction="none", pos_weight=pos_weight).mean(-1)


def balanced_weights(actual: Tensor) -> Tensor:
    """The pos_weight float32 [L] for `balanced`: examples without the label for each with it. `actual` are the training labels [N, L]."""
    having = actual.sum(0).float()
    return (len(actual) - having).clamp(min=1) / having.clamp(min=1)


class HeadsLabelLoss:
    """The binary cross entropy of M heads with a hand-written gradient.

    For one member, example and label with the logit z, the target t of 0 or 1, p = sigmoid(z) and the weight w of t = 1:
        loss      L     = -w t log p - (1 - t) log(1 - p) = (1 - t) z + (1 + (w - 1) t) log(1 + exp(-z))
        gradient  dL/dz = (1 - t) - (1 + (w - 1) t) (1 - p)
    The mean over B examples and L labels divides both by B L.
    """

    def __init__(self, weighted: Sequence[bool], weights: Tensor) -> None:
        """For each of M members whether its loss is weighted; the weights [L]."""
        self._weighted, self._weights = tuple(weighted), weights
        self._excess: Tensor | None = None  # w - 1, [M, L, 1]
        if any(weighted):
            each = torch.tensor(self._weighted, device=weights.device, dtype=weights.dtype)
            self._excess = (each[:, None] * (weights - 1))[..., None]

    def of(self, first: int, last: int) -> "HeadsLabelLoss":
        """The loss of members `first` to `last`, the latter excluded."""
        return HeadsLabelLoss(self._weighted[first:last], self._weights)

    def __call__(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [M, L, B], labels bool [B, L] → mean losses [M], gradient by the logits [M, L, B]."""
        true = targets.T.to(outputs.dtype)  # [L, B]
        losses, slope = F.softplus(-outputs), torch.sigmoid(-outputs)  # log(1 + exp(-z)), 1 - p
        if self._excess is not None:
            weight = 1 + self._excess * true
            losses, slope = losses * weight, slope * weight
        losses = (losses + (1 - true) * outputs).mean((1, 2))
        return losses, (1 - true - slope) / true.numel()
