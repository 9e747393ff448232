"""Metrics of image classification on images that the model was not trained on."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from trainer.tasks.image_classification.config import Report


def measure(predicted: Tensor, actual: Tensor, losses: Tensor, classes: int) -> list[tuple[Mapping[str, float], Tensor]]:
    """Metrics and confusion matrix of M models, given predicted classes int64 [M, N], true ones [N] and cross entropies [M, N] in nats.

    The matrix is int64 [C, C], on the host; rows are true classes, columns predicted ones.
    Macro means are over the classes that have images or predictions, as torchmetrics takes them.
    """
    matrices = confusions(predicted, actual, classes).cpu()
    hits = matrices.diagonal(dim1=1, dim2=2)  # [M, C]
    of_class, as_class = matrices.sum(2), matrices.sum(1)
    present = of_class + as_class > 0

    def macro(share: Tensor) -> Tensor:
        return (share * present).sum(1) / present.sum(1)

    columns = {
        "accuracy": _share(hits.sum(1), of_class.sum(1)),
        "precision": macro(_share(hits, as_class)),
        "recall": macro(_share(hits, of_class)),
        "f1": macro(_share(2 * hits, of_class + as_class)),
        "loss": losses.double().mean(1).cpu(),
    }
    rows = torch.stack([*columns.values()], 1).tolist()
    return [(dict(zip(columns, row, strict=True)), matrix) for row, matrix in zip(rows, matrices, strict=True)]


def report_of(confusion: Tensor, classes: Sequence[str]) -> Report:
    """The confusion matrix, and each class's recall over its own images; 0 for a class without any."""
    recalls = _share(confusion.diagonal(), confusion.sum(1)).tolist()
    return Report(
        per_class_recall=dict(zip(classes, recalls, strict=True)),
        confusion_matrix=tuple(map(tuple, confusion.tolist())),
    )


def confusions(predicted: Tensor, actual: Tensor, classes: int) -> Tensor:
    """Counts by true and predicted class: int64 [M, C, C] of predictions [M, N] against the true classes [N]."""
    models = torch.arange(len(predicted), device=predicted.device)[:, None]
    cells = (models * classes + actual) * classes + predicted  # [M, N]
    return cells.flatten().bincount(minlength=len(predicted) * classes * classes).view(-1, classes, classes)


def _share(part: Tensor, whole: Tensor) -> Tensor:
    """In float64; 0 where the whole is 0."""
    return part.double() / whole.clamp(min=1)
