"""The Target of classes, the half with torch: order, loss, metrics and reports."""

import base64
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.configuration import DatasetInfo, Part, TrainConfig
from trainer.data.dataset import PARTS, Dataset
from trainer.order import drawn_evenly
from trainer.targets.base import Target
from trainer.targets.classes.config import MOST_SCORED, ClassHyperparameters, ClassReport, ClassTestReport
from trainer.targets.classes.losses import CrossEntropy, HeadsCrossEntropy, TabulatedCrossEntropy, balanced_weights, tabulates
from trainer.targets.classes.spec import ClassesSpec, class_info
from trainer.tasks.base import Decision, Measurement, Names

HIGHEST_LOSS = torch.finfo(torch.float16).max  # losses are reported as float16; a higher one would become infinite


class ClassesTarget(Target):
    """One class for each example."""

    def __init__(self, spec: ClassesSpec) -> None:
        self._spec = spec

    @property
    def spec(self) -> ClassesSpec:
        """The half without torch."""
        return self._spec

    def facts(self, dataset: Dataset) -> Mapping[str, Any]:
        """The classes, and the number of files by part and class."""
        counted = Counter[tuple[Part, int]]()
        for content in dataset.contents:
            counted[content.part, content.label] += len(content.files)
        counts = {part: tuple(counted[part, label] for label in range(len(dataset.labels))) for part in PARTS}
        return {"classes": dataset.labels, "class_counts": counts}

    def targets(self, dataset: Dataset) -> Tensor:
        """Classes, int64 [N]."""
        return torch.tensor([content.label for content in dataset.contents])

    def order(self, rows: Tensor, targets: Tensor, config: TrainConfig, epoch: int) -> Tensor | None:
        """Equally many rows of each class if sampling is balanced; else None, which means a shuffle."""
        return drawn_evenly(rows, targets.cpu(), config.order_seed, epoch) if _asked(config).sampling == "balanced" else None

    def loss_settings(self, config: TrainConfig, targets: Tensor, info: DatasetInfo) -> CrossEntropy:
        """Label smoothing and class weights of the cross entropy."""
        asked = _asked(config)
        balanced = balanced_weights(targets, self.spec.outputs(info)) if asked.class_weights == "balanced" else None
        return CrossEntropy(asked.label_smoothing, balanced)

    def loss(self, outputs: Tensor, targets: Tensor, settings: CrossEntropy) -> tuple[Tensor, Tensor]:
        """Cross entropy of each example in nats [B], and weights of 1 [B]: class weights multiply the loss itself."""
        losses = settings(outputs, targets)
        return losses, torch.ones_like(losses)

    def tally(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The predicted class and the cross entropy of each example, [B, 2]."""
        return torch.stack((outputs.argmax(1).float(), F.cross_entropy(outputs, targets, reduction="none")), -1)

    def measure(
        self,
        tallies: Tensor,
        targets: Tensor,
        info: DatasetInfo,
        *,
        examples: bool = False,
        names: Names | None = None,
        decisions: Sequence[Decision] | None = None,
    ) -> Sequence[Measurement]:
        """Tallies [M, N, 2] and classes [N] → accuracy, macro precision, recall and F1, and the mean cross entropy in nats."""
        classes = class_info(info).classes
        predicted, losses = tallies[..., 0].long(), tallies[..., 1]
        measured = measure(predicted, targets, losses, len(classes))
        if not examples:
            each = zip(measured, predicted, strict=True)
            return [Measurement(metrics, partial(report_of, own, targets, classes)) for metrics, own in each]
        order = targets.argsort(stable=True)  # by class, within it by content: rows are in the order of contents already
        actual = targets[order].cpu()
        scored = zip(measured, predicted[:, order].cpu(), losses[:, order].double().cpu(), strict=True)
        return [Measurement(metrics, partial(_test_report, own, actual, classes, lost)) for metrics, own, lost in scored]

    def metadata(self, info: DatasetInfo, decision: Decision = None) -> Mapping[str, str]:
        """The class names, for the exported model's metadata."""
        return {"classes": json.dumps(list(class_info(info).classes))}

    def heads_loss(self, configs: Sequence[TrainConfig], targets: Tensor, info: DatasetInfo) -> HeadsCrossEntropy | TabulatedCrossEntropy:
        """Cross entropy with each member's label smoothing and class weights."""
        members, classes = [_asked(config) for config in configs], self.spec.outputs(info)
        smoothing, weighted = [member.label_smoothing for member in members], [member.class_weights == "balanced" for member in members]
        class_weights = balanced_weights(targets, classes) if any(weighted) else torch.ones(classes, device=targets.device)
        if tabulates(targets.device):
            return TabulatedCrossEntropy(smoothing, weighted, class_weights)
        return HeadsCrossEntropy(smoothing=torch.tensor(smoothing, device=targets.device), weighted=weighted, class_weights=class_weights)

    def heads_tally(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Logits [M, C, B] and classes [B] → predicted classes and cross entropies [M, B, 2]."""
        losses = F.cross_entropy(outputs, targets.expand(len(outputs), -1), reduction="none")
        return torch.stack((outputs.argmax(1).float(), losses), -1)


def measure(predicted: Tensor, actual: Tensor, losses: Tensor, classes: int) -> list[Mapping[str, float]]:
    """Metrics of each of M models.

    Takes predicted classes int64 [M, N], true classes [N] and cross entropies [M, N] in nats. Macro means are over the classes that have
    examples or predictions, as in torchmetrics. Only counts by class leave the device: confusion matrices of many models would be large.
    """
    first = torch.arange(len(predicted), device=predicted.device)[:, None] * classes  # of each model's cells
    wrong = len(predicted) * classes  # one cell for all wrong predictions
    hits = torch.where(predicted == actual, first + actual, wrong).flatten().bincount(minlength=wrong + 1)[:-1]
    as_class = (first + predicted).flatten().bincount(minlength=wrong)
    hits, as_class = torch.stack((hits, as_class)).view(2, -1, classes).cpu().unbind()  # [M, C]; examples predicted as the class
    of_class = actual.bincount(minlength=classes).cpu().expand_as(hits)  # examples of the class
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
    return [dict(zip(columns, row, strict=True)) for row in rows]


def report_of(predicted: Tensor, actual: Tensor, classes: Sequence[str]) -> ClassReport:
    """The confusion matrix of predicted and true classes [N], and the recall of each class; 0 for a class without examples."""
    confusion = confusion_of(predicted, actual, len(classes)).cpu()
    recalls = _share(confusion.diagonal(), confusion.sum(1)).tolist()
    return ClassReport(
        per_class_recall=dict(zip(classes, recalls, strict=True)),
        confusion_matrix=tuple(map(tuple, confusion.tolist())),
    )


def confusion_of(predicted: Tensor, actual: Tensor, classes: int) -> Tensor:
    """Predicted and true classes [N] → counts int64 [C, C]; rows are true classes, columns predicted ones."""
    return torch.bincount(actual * classes + predicted, minlength=classes * classes).view(classes, classes)


def _share(part: Tensor, whole: Tensor) -> Tensor:
    """The quotient in float64; 0 where the denominator is 0 (the numerator is 0 there too)."""
    return part.double() / whole.clamp(min=1)


def _test_report(predicted: Tensor, actual: Tensor, classes: Sequence[str], losses: Tensor) -> ClassTestReport:
    listed = len(predicted) <= MOST_SCORED
    return ClassTestReport(
        **dict(report_of(predicted, actual, classes)),
        predicted=base64.b64encode(predicted.numpy().astype("<u2").tobytes()).decode() if listed else None,
        losses=base64.b64encode(losses.clamp(max=HIGHEST_LOSS).numpy().astype("<f2").tobytes()).decode() if listed else None,
    )


def _asked(config: TrainConfig) -> ClassHyperparameters:
    if not isinstance(config, ClassHyperparameters):
        raise TypeError(f"{type(config).__name__} has no hyperparameters of classes")
    return config
