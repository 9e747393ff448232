"""The Target of classes, the half with torch: order, loss, metrics and reports."""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from trainer.configuration import DatasetInfo, Part, TrainConfig, narrowing
from trainer.data.dataset import PARTS, Dataset
from trainer.data.examples import shown
from trainer.data.targets import TargetValue
from trainer.order import drawn_evenly
from trainer.targets.classes.config import (
    MAX_CLASS_NAME,
    MOST_RANKED,
    MOST_SCORED,
    ClassHyperparameters,
    ClassReport,
    ClassTestReport,
    WrongClass,
)
from trainer.targets.classes.losses import CrossEntropy, HeadsCrossEntropy, TabulatedCrossEntropy, balanced_weights, tabulates
from trainer.targets.classes.measuring import PREDICTION, PROBABILITIES, contributions, measure, share, tallies_of
from trainer.targets.classes.spec import class_info
from trainer.targets.encoding import encode
from trainer.targets.examples import MOST_WORST
from trainer.tasks.base import Decision, Measurement, Names
from trainer.tasks.composition import ComposedTask

HIGHEST_LOSS = torch.finfo(torch.float16).max  # losses are reported as float16; a higher one would become infinite


class ClassesTarget(ComposedTask):
    """One class for each example."""

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
        return CrossEntropy(asked.label_smoothing, balanced, asked.focal_gamma)

    def loss_of(self, outputs: Tensor, targets: Tensor, settings: CrossEntropy) -> tuple[Tensor, Tensor]:
        """Cross entropy of each example in nats [B], and weights of 1 [B]: class weights multiply the loss itself."""
        losses = settings(outputs, targets)
        return losses, torch.ones_like(losses)

    def tally(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """See `tallies_of`: [B, K]."""
        return tallies_of(outputs[None].transpose(1, 2), targets)[0]

    def tally_width(self, examples: int, info: DatasetInfo) -> int | None:
        """Without the probabilities of all classes if there are many."""
        return None if examples * self.spec.outputs(info) <= MOST_RANKED else PROBABILITIES

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
        """Tallies [M, N, K] and classes [N] → the metrics; AUROC and average precision only with the probabilities of all classes."""
        classes = class_info(info).classes
        measured = measure(tallies, targets, len(classes))
        if not examples:
            each = zip(measured, tallies[..., :PREDICTION].clone(), strict=True)  # a report does not keep the probabilities in memory
            return [Measurement(metrics, partial(_report, own, targets, classes, names)) for metrics, own in each]
        order = targets.argsort(stable=True)  # by class, within it by content: rows are in the order of contents already
        actual = targets[order].cpu()
        scored = zip(measured, tallies[:, order].cpu(), strict=True)
        return [Measurement(metrics, partial(_test_report, own, actual, classes)) for metrics, own in scored]

    def metadata(self, info: DatasetInfo, decision: Decision = None) -> Mapping[str, str]:
        """The class names, for the exported model's metadata."""
        return {"classes": json.dumps(list(class_info(info).classes))}

    def encoded(self, target: str, info: DatasetInfo) -> Tensor:
        """The index of the class."""
        if target not in (classes := class_info(info).classes):
            raise ValueError(f"the model has no class {shown(target)!r}")
        return torch.tensor(classes.index(target))

    def final(self, outputs: Tensor, info: DatasetInfo) -> Tensor:
        """The probability of each class, [N, C]."""
        return outputs.double().softmax(1)

    def answers(self, outputs: Tensor, info: DatasetInfo, decision: Decision) -> Sequence[TargetValue]:
        """The most probable classes."""
        classes = class_info(info).classes
        return [classes[place] for place in outputs.argmax(1).tolist()]

    def heads_loss(self, configs: Sequence[TrainConfig], targets: Tensor, info: DatasetInfo) -> HeadsCrossEntropy | TabulatedCrossEntropy:
        """Cross entropy with each member's label smoothing and class weights."""
        members, classes = [_asked(config) for config in configs], self.spec.outputs(info)
        smoothing, weighted = [member.label_smoothing for member in members], [member.class_weights == "balanced" for member in members]
        class_weights = balanced_weights(targets, classes) if any(weighted) else torch.ones(classes, device=targets.device)
        focal = any(member.focal_gamma for member in members)
        if tabulates(targets.device) and not focal:
            return TabulatedCrossEntropy(smoothing, weighted, class_weights)
        gamma = torch.tensor([member.focal_gamma for member in members], device=targets.device) if focal else None
        smooth = torch.tensor(smoothing, device=targets.device)
        return HeadsCrossEntropy(smoothing=smooth, weighted=weighted, class_weights=class_weights, focal_gamma=gamma)

    def heads_tally(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """See `tallies_of`: [M, B, K]."""
        return tallies_of(outputs, targets)


def _report(tallies: Tensor, actual: Tensor, classes: Sequence[str], names: Names | None) -> ClassReport:
    """The report of tallies [N, PREDICTION] and true classes [N]."""
    worst = () if names is None else tuple(_worst(tallies, actual, classes, names))
    return report_of(tallies[:, 0].long(), actual, classes, worst)


def _worst(tallies: Tensor, actual: Tensor, classes: Sequence[str], names: Names) -> Iterator[WrongClass]:
    """The wrongly predicted examples with the highest losses. A loss that is NaN counts as infinite."""
    losses = tallies[:, 1].nan_to_num(nan=math.inf, posinf=math.inf).masked_fill(tallies[:, 0].long() == actual, -1.0)
    worst = losses.sort(descending=True, stable=True)
    values, rows = worst.values[:MOST_WORST], worst.indices[:MOST_WORST]
    columns = (rows, actual[rows], tallies[rows, 0], (-values).exp(), tallies[rows, 2].nan_to_num().clamp(max=1), values >= 0)
    found = [one for one in torch.stack([column.double() for column in columns], 1).tolist() if one[-1]]  # one copy from the device
    examples = names([int(row) for row, *_ in found])
    for example, (_, target, predicted, low, high, _) in zip(examples, found, strict=True):
        named = {"target": classes[int(target)][:MAX_CLASS_NAME], "predicted": classes[int(predicted)][:MAX_CLASS_NAME]}
        yield WrongClass(**dict(example), **named, target_probability=low, probability=high)


def report_of(predicted: Tensor, actual: Tensor, classes: Sequence[str], worst: tuple[WrongClass, ...] = ()) -> ClassReport:
    """The confusion matrix of predicted and true classes [N], and the recall of each class; 0 for a class without examples."""
    confusion = confusion_of(predicted, actual, len(classes)).cpu()
    recalls = share(confusion.diagonal(), confusion.sum(1)).tolist()
    return ClassReport(
        per_class_recall=dict(zip(classes, recalls, strict=True)),
        confusion_matrix=tuple(map(tuple, confusion.tolist())),
        worst_classes=worst,
    )


def confusion_of(predicted: Tensor, actual: Tensor, classes: int) -> Tensor:
    """Predicted and true classes [N] → counts int64 [C, C]; rows are true classes, columns predicted ones."""
    return torch.bincount(actual * classes + predicted, minlength=classes * classes).view(classes, classes)


def _test_report(tallies: Tensor, actual: Tensor, classes: Sequence[str]) -> ClassTestReport:
    predicted = tallies[:, 0].long()
    listed = len(predicted) <= MOST_SCORED
    return ClassTestReport(
        **dict(report_of(predicted, actual, classes)),
        predicted=encode(predicted.numpy(), "<u2") if listed else None,
        losses=encode(tallies[:, 1].double().clamp(max=HIGHEST_LOSS).numpy(), "<f2") if listed else None,
        scores={name: encode(values, "<f2") for name, values in contributions(tallies, actual).items()} if listed else None,
    )


_asked: Callable[[TrainConfig], ClassHyperparameters] = narrowing(ClassHyperparameters, "has no hyperparameters of classes")
