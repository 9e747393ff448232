"""Tallies and metrics of classes, and the contributions of test examples to metrics that need more than the predicted class."""

from collections.abc import Mapping

import torch
from torch import Tensor

from trainer.targets.classes.config import MOST_CLASSES_RANKED
from trainer.targets.jackknife import Values, auroc, average_precision, over_labels
from trainer.targets.ranking import ranking, sorted_by_label

PREDICTION = 3  # the first tallies: predicted class, its cross entropy and probability
PROBABILITIES = 4  # the first tally that is the probability of one class
TOP = 5
BINS = 15  # of the calibration error, of equal width


def tallies_of(outputs: Tensor, targets: Tensor) -> Tensor:
    """Logits [M, C, B] and classes [B] → [M, B, K]: predicted class, cross entropy in nats, its probability, 1 if the true class is among
    the five most probable ones, and the probability of each class unless there are many.
    """
    logs, true = outputs.log_softmax(1), targets.expand(len(outputs), 1, -1)
    better = (outputs > outputs.gather(1, true)).sum(1)  # classes that are more probable than the true one
    found = [outputs.argmax(1).to(logs.dtype), -logs.gather(1, true)[:, 0], logs.amax(1).exp(), (better < TOP).to(logs.dtype)]
    if outputs.shape[1] > MOST_CLASSES_RANKED:
        return torch.stack(found, -1)
    return torch.cat((torch.stack(found, 1), logs.exp()), 1).transpose(1, 2)


def measure(tallies: Tensor, actual: Tensor, classes: int) -> list[Mapping[str, float]]:
    """Metrics of each of M models, from tallies [M, N, K] and true classes [N].

    Macro means are over the classes that have examples or predictions, as in torchmetrics, and over those that have examples for balanced
    accuracy, AUROC and average precision. Only counts by class leave the device: confusion matrices of many models would be large.
    """
    predicted = tallies[..., 0].long()
    first = torch.arange(len(predicted), device=predicted.device)[:, None] * classes  # of each model's cells
    wrong = len(predicted) * classes  # one cell for all wrong predictions
    hits = torch.where(predicted == actual, first + actual, wrong).flatten().bincount(minlength=wrong + 1)[:-1]
    as_class = (first + predicted).flatten().bincount(minlength=wrong)
    hits, as_class = torch.stack((hits, as_class)).view(2, -1, classes).cpu().unbind()  # [M, C]; examples predicted as the class
    of_class = actual.bincount(minlength=classes).cpu().expand_as(hits)  # examples of the class
    present, total = of_class + as_class > 0, of_class.sum(1)
    precision, recall, f1 = share(hits, as_class), share(hits, of_class), share(2 * hits, of_class + as_class)
    accuracy = share(hits.sum(1), total)

    def macro(each: Tensor) -> Tensor:
        return (each * present).sum(1) / present.sum(1)

    def weighted(each: Tensor) -> Tensor:
        return (each * of_class).sum(1) / total

    columns = {
        "accuracy": accuracy,
        "top_5_accuracy": tallies[..., 3].double().mean(1).cpu(),
        "balanced_accuracy": recall.sum(1) / (of_class > 0).sum(1),
        "precision": macro(precision),
        "recall": macro(recall),
        "f1": macro(f1),
        "micro_precision": accuracy,  # with one class for each example, every wrong prediction is one false positive and one false negative
        "micro_recall": accuracy,
        "micro_f1": accuracy,
        "weighted_precision": weighted(precision),
        "weighted_recall": accuracy,
        "weighted_f1": weighted(f1),
        "matthews": _matthews(hits.sum(1), as_class, of_class),
        **_ranking(tallies[..., PROBABILITIES:], actual),
        "loss": tallies[..., 1].double().mean(1).cpu(),
        "ece": _gaps(tallies, actual)[0].abs().sum(1).cpu() / tallies.shape[1],
    }
    rows = torch.stack([*columns.values()], 1).tolist()
    return [dict(zip(columns, row, strict=True)) for row in rows]


def share(part: Tensor, whole: Tensor) -> Tensor:
    """The quotient in float64; 0 where the denominator is 0 (the numerator is 0 there too)."""
    return part.double() / whole.clamp(min=1)


def _matthews(hits: Tensor, as_class: Tensor, of_class: Tensor) -> Tensor:
    """Matthews' correlation of hits [M] and counts by class [M, C]; 0 if all examples or all predictions have one class.

    Source: Gorodkin, Comp. Biol. Chem. 28, 2004.
    """
    as_class, of_class = as_class.double(), of_class.double()
    count = of_class.sum(1)
    spread = (count**2 - (as_class**2).sum(1)) * (count**2 - (of_class**2).sum(1))
    return torch.where(spread > 0, (hits * count - (as_class * of_class).sum(1)) / spread.clamp(min=1).sqrt(), 0.0)


def _gaps(tallies: Tensor, actual: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """By bin of the predicted class's probability, the sum of hits less probabilities [M, bins]; the summands [M, N]; their bins [M, N].

    Source: Guo et al., On Calibration of Modern Neural Networks, 2017.
    """
    confidence = tallies[..., 2].double()
    bins = (confidence * BINS).ceil().long().sub(1).clamp(0, BINS - 1)  # a bin contains its upper limit
    gaps = (tallies[..., 0].long() == actual).double() - confidence
    return gaps.new_zeros((len(gaps), BINS)).scatter_add_(1, bins, gaps), gaps, bins


def _ranking(probabilities: Tensor, actual: Tensor) -> dict[str, Tensor]:
    """AUROC and average precision [M] of each class against the others, their means over the classes; empty without [M, N, C]."""
    if not probabilities.shape[-1]:
        return {}
    present = torch.unique(actual)
    own = actual[:, None] == torch.arange(probabilities.shape[-1], device=actual.device)
    areas, precisions = (found[:, present] for found in ranking(sorted_by_label(probabilities, own)))
    return {
        "auroc": (areas.mean(1) if len(present) > 1 else torch.full_like(areas[:, 0], 0.5)).cpu(),
        "average_precision": precisions.mean(1).cpu(),
    }


def contributions(tallies: Tensor, actual: Tensor) -> dict[str, Values]:
    """Each example's contribution to metrics, from one model's tallies [N, K] and true classes [N] on the host.

    1 or 0 for top_5_accuracy; for the others the jackknife's pseudo-value.
    """
    sums, gaps, bins = (one[0] for one in _gaps(tallies[None], actual))
    of_bin = sums[bins]
    found = {"top_5_accuracy": tallies[:, 3].double().numpy(), "ece": (of_bin.abs() - (of_bin - gaps).abs()).numpy()}
    if tallies.shape[1] > PROBABILITIES:
        present = torch.unique(actual)
        has, shares = (actual[:, None] == present).numpy(), tallies[:, PROBABILITIES:][:, present].double().numpy()
        found |= {"auroc": over_labels(auroc, has, shares), "average_precision": over_labels(average_precision, has, shares)}
    return found
