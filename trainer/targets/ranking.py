"""Metrics of rankings: examples that have a label against those that lack it, by the label's logit or probability. For many models."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class LabelRanking:
    """The scores that M models give one label, ascending: of the P examples that have it, and of all N examples."""

    having: Tensor  # [M, P]
    every: Tensor  # [M, N]

    def measure(self) -> tuple[Tensor, Tensor]:
        """Area under the ROC curve and average precision, float64 [M]; NaN where they are not defined.

        The area is the share of pairs of an example with and one without the label in which the former has the greater score, ties half.
        The average precision is the mean, over examples with the label, of the share of them among the examples with at least their score.
        """
        count, positives = self.every.shape[1], self.having.shape[1]
        undefined = torch.full((len(self.having),), torch.nan, dtype=torch.float64, device=self.having.device)
        if not positives:
            return undefined, undefined
        below, upto = torch.searchsorted(self.every, self.having), torch.searchsorted(self.every, self.having, right=True)
        own_below, own_upto = torch.searchsorted(self.having, self.having), torch.searchsorted(self.having, self.having, right=True)
        precision = ((positives - own_below).double() / (count - below)).mean(1)
        if positives == count:
            return undefined, precision
        twice = (below - own_below) + (upto - own_upto)  # examples without the label below, and half of the equal ones, times two
        return twice.sum(1).double() / (2 * positives * (count - positives)), precision

    def reaching(self, thresholds: Tensor) -> tuple[Tensor, Tensor]:
        """Thresholds [T] → examples with the label that reach each, and all examples that do, int64 [M, T]."""
        each = thresholds.expand(len(self.having), -1).contiguous()
        hits, reached = (own.shape[1] - torch.searchsorted(own, each) for own in (self.having, self.every))
        return hits, reached


def sorted_by_label(scores: Tensor, actual: Tensor) -> list[LabelRanking]:
    """Scores [M, N, L] and labels bool [N, L] → the ranking of each label.

    Metrics of rankings follow from the sorted values alone. NumPy sorts values several times as fast as torch, which sorts indices too.
    """
    columns = scores.permute(2, 0, 1).contiguous()  # [L, M, N]
    having = [column[:, own.nonzero()[:, 0]] for column, own in zip(columns, actual.T, strict=True)]
    return [LabelRanking(_sorted(own), every) for own, every in zip(having, _sorted(columns), strict=True)]


def _sorted(values: Tensor) -> Tensor:
    return values.sort(-1).values if values.device.type != "cpu" else torch.from_numpy(np.sort(values.numpy(), axis=-1))


def ranking(labels: Sequence[LabelRanking]) -> tuple[Tensor, Tensor]:
    """Area under the ROC curve and average precision by label, each float64 [M, L].

    NaN where they are not defined: without an example that has the label, and for the area also without one that lacks it.
    """
    areas, precisions = zip(*(own.measure() for own in labels), strict=True)
    return torch.stack(areas, 1), torch.stack(precisions, 1)
