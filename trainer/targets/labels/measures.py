"""Metrics and the loss of multi-label tasks, for one model and for many."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

CELLS = 4_000_000  # logits that are ranked or counted at a time
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


def choose_thresholds(logits: Tensor, actual: Tensor) -> list[float]:
    """The threshold of each of M models with the largest macro F1, given logits [M, N, L] and labels bool [N, L].

    Of equally good thresholds the one nearest to 0.5.
    """
    candidates = torch.tensor(THRESHOLDS, device=logits.device, dtype=logits.dtype)
    nearest = (candidates - 0.5).abs().argsort(stable=True)
    chosen = list[float]()
    for part in _parts(logits):
        models, _, labels = part.shape
        reached = torch.bucketize(part.sigmoid(), candidates, right=True)  # thresholds that the probability reaches
        # One histogram of the probabilities for each model and label, of all examples and of those that have the label.
        cell = torch.arange(models * labels, device=part.device).view(models, 1, labels) * (len(candidates) + 1) + reached
        size = models * labels * (len(candidates) + 1)
        every, having = torch.bincount(cell.flatten(), minlength=size), cell[actual.expand_as(cell)]
        counted = torch.stack((every, torch.bincount(having, minlength=size))).view(2, models, labels, -1).double()
        predicted, hits = counted.flip(3).cumsum(3).flip(3)[..., 1:]  # [m, L, T]
        f1 = share(2 * hits, predicted + actual.sum(0)[:, None]).mean(1)  # [m, T]
        chosen += [THRESHOLDS[int(nearest[best])] for best in f1[:, nearest].argmax(1).tolist()]
    return chosen


def predict(logits: Tensor, thresholds: Sequence[float]) -> Tensor:
    """Logits [M, N, L] → predicted labels, bool of the same shape."""
    return logits.sigmoid() >= torch.tensor(thresholds, device=logits.device, dtype=logits.dtype)[:, None, None]


def count(predicted: Tensor, actual: Tensor) -> LabelCounts:
    """Predicted labels bool [M, N, L] and labels [N, L] → counts."""
    hits, own = (predicted & actual).sum(1).double(), actual.sum(0).double()
    return LabelCounts(hits, predicted.sum(1).double(), own.expand_as(hits))


def ranking(logits: Tensor, actual: Tensor) -> tuple[Tensor, Tensor]:
    """Logits [M, N, L] and labels bool [N, L] → area under the ROC curve and average precision by label, each float64 [M, L].

    NaN where they are not defined: without an example that has the label, and for the area also without one that lacks it.
    """
    found = [_ranking(part.transpose(1, 2).contiguous(), actual.T.contiguous()) for part in _parts(logits)]
    return torch.cat([area for area, _ in found]), torch.cat([precision for _, precision in found])


def _ranking(logits: Tensor, actual: Tensor) -> tuple[Tensor, Tensor]:
    """As `ranking`, from logits [m, L, N] and labels [L, N]."""
    ordered, order = logits.sort(2, descending=True)
    has = actual.expand_as(order).gather(2, order)
    hits = has.cumsum(2, dtype=torch.int32)
    place = torch.arange(1, logits.shape[2] + 1, device=logits.device, dtype=torch.int32)
    # Examples with equal logits count alike: they have the counts at the end of their run of equal values.
    ends = torch.ones_like(has)
    ends[..., :-1] = ordered[..., 1:] != ordered[..., :-1]
    if bool(ends.all()):
        last, hits_at_end, hits_before = place.expand_as(hits), hits, hits - has.int()
        first = place - 1
    else:
        last = torch.where(ends, place, logits.shape[2]).flip(2).cummin(2).values.flip(2)
        hits_at_end = hits.gather(2, last.long() - 1)
        starts = torch.ones_like(ends)
        starts[..., 1:] = ends[..., :-1]
        first = torch.where(starts, place - 1, 0).cummax(2).values
        hits_before = torch.where(first > 0, hits.gather(2, (first.long() - 1).clamp(min=0)), 0)
    m = actual.sum(1).double()
    n = actual.shape[1] - m
    precision = (has * (hits_at_end.double() / last)).sum(2) / torch.where(m > 0, m, torch.nan)
    # For each example with the label, the examples without it that have a smaller logit, and half of those with an equal one.
    above, at_least = first - hits_before, last - hits_at_end
    pairs = (has * (n[:, None] - (above + at_least).double() / 2)).sum(2)
    area = pairs / torch.where(m * n > 0, m * n, torch.nan)
    unranked = logits.isnan().any(2)
    return area.masked_fill(unranked, torch.nan), precision.masked_fill(unranked, torch.nan)


def _parts(logits: Tensor) -> Iterator[Tensor]:
    """Some models at a time, since intermediate results take several times the memory of the logits."""
    return iter(torch.split(logits, max(1, CELLS // max(1, logits.shape[1] * logits.shape[2]))))


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
