"""The Target of labels, the half with torch: loss, threshold, metrics and reports."""

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainer.configuration import DatasetInfo, Part, TrainConfig, narrowing
from trainer.data.dataset import PARTS, Dataset
from trainer.data.examples import BadData, shown
from trainer.data.targets import HasTargets, TargetValue
from trainer.targets.encoding import encode
from trainer.targets.examples import MOST_WORST
from trainer.targets.labels.config import (
    MOST_CELLS,
    LabelHyperparameters,
    LabelReport,
    LabelScores,
    LabelTestReport,
    WrongLabels,
    parted,
)
from trainer.targets.labels.measures import (
    HeadsLabelLoss,
    balanced_weights,
    choose_thresholds,
    count,
    losses_of,
    predict,
)
from trainer.targets.labels.spec import label_info
from trainer.targets.ranking import ranking, sorted_by_label
from trainer.tasks.base import Decision, Measurement, Names
from trainer.tasks.composition import ComposedTask

MOST_LOSS = 1e30  # in a report, which has finite numbers alone
HIGHEST_LOGIT = torch.finfo(torch.float16).max  # logits are reported as float16; a higher one would become infinite


class LabelsTarget(ComposedTask):
    """A set of labels for each example. The network has one output for each label, a logit."""

    def facts(self, dataset: Dataset) -> Mapping[str, Any]:
        """The labels, and the number of examples with each of them. Raises BadData for a label that no training example has."""
        sets = _sets(dataset)
        names, counted, empty = _names(sets), {part: Counter[str]() for part in PARTS}, Counter[Part]()
        for content, own in zip(dataset.contents, sets, strict=True):
            counted[content.part].update({name: len(content.files) for name in own})
            empty[content.part] += 0 if own else len(content.files)
        if lacking := [name for name in names if not counted["train"][name]]:
            remedy = "another data.seed draws another split; else add examples, or remove the label"
            raise BadData.listing(f"these labels have no example in the train part of the split ({remedy})", lacking)
        return {
            "labels": names,
            "label_counts": {part: tuple(counted[part][name] for name in names) for part in PARTS},
            "without_labels": dict(empty),
            "merged_strata": dataset.merged_strata,
        }

    def targets(self, dataset: Dataset) -> Tensor:
        """Whether an example has a label, bool [N, L]."""
        sets = _sets(dataset)
        places = {name: place for place, name in enumerate(_names(sets))}
        rows = torch.zeros((len(sets), len(places)), dtype=torch.bool)
        for row, own in enumerate(sets):
            rows[row, [places[name] for name in own]] = True
        return rows

    def loss_settings(self, config: TrainConfig, targets: Tensor, info: DatasetInfo) -> Tensor | None:
        """The weights [L] of labels that an example has; None without weights."""
        return balanced_weights(targets) if _asked(config).pos_weight == "balanced" else None

    def loss_of(self, outputs: Tensor, targets: Tensor, settings: Tensor | None) -> tuple[Tensor, Tensor]:
        """Binary cross entropy of each example in nats [B], the mean over the labels, and weights of 1 [B]."""
        losses = losses_of(outputs, targets, settings)
        return losses, torch.ones_like(losses)

    def tally(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The logits [B, L]: threshold and rankings need them all."""
        return outputs

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
        """Logits [M, N, L] and labels [N, L] → metrics. `decisions` are the thresholds; without them they are chosen by the F1."""
        ordered, labels = sorted_by_label(tallies, targets), label_info(info).labels
        thresholds = choose_thresholds(ordered) if decisions is None else [float(decision) for decision in decisions]
        predicted = predict(tallies, thresholds)
        counts, (areas, precisions) = count(predicted, targets), ranking(ordered)
        wrong = predicted != targets
        columns = {
            "f1": counts.f1.mean(1),
            "precision": counts.precision.mean(1),
            "recall": counts.recall.mean(1),
            "micro_f1": counts.total.f1.mean(1),
            "micro_precision": counts.total.precision.mean(1),
            "micro_recall": counts.total.recall.mean(1),
            "hamming": wrong.double().mean((1, 2)),
            "subset_accuracy": wrong.any(2).logical_not().double().mean(1),
            "auroc": _known_mean(areas, tallies),
            "average_precision": _known_mean(precisions, tallies),
            "loss": losses_of(tallies, targets).double().mean(1),
        }
        rows = torch.stack([*columns.values()], 1).tolist()
        report = _test_report if examples else _report
        return [
            Measurement(
                dict(zip(columns, row, strict=True)),
                partial(report, tallies[model], targets, labels, threshold, names),
                decision=threshold,
            )
            for model, (row, threshold) in enumerate(zip(rows, thresholds, strict=True))
        ]

    def metadata(self, info: DatasetInfo, decision: Decision = None) -> Mapping[str, str]:
        """The label names, and the threshold of a label's probability."""
        return {"labels": json.dumps(list(label_info(info).labels)), **({} if decision is None else {"threshold": repr(decision)})}

    def decision(self, metadata: Mapping[str, str]) -> Decision:
        """The threshold."""
        try:
            threshold = float(metadata["threshold"])
        except (KeyError, ValueError):
            threshold = math.nan
        if not 0 < threshold < 1:
            raise ValueError("its metadata has no threshold from 0 to 1")
        return threshold

    def encoded(self, target: str, info: DatasetInfo) -> Tensor:
        """Whether the example has each label, bool [L]."""
        labels, own = label_info(info).labels, parted(target)
        if unknown := [name for name in own if name not in labels]:
            raise ValueError(f"the model has no label {shown(unknown[0])!r}")
        return torch.tensor([label in own for label in labels])

    def final(self, outputs: Tensor, info: DatasetInfo) -> Tensor:
        """The probability of each label, [N, L]."""
        return outputs.double().sigmoid()

    def answers(self, outputs: Tensor, info: DatasetInfo, decision: Decision) -> Sequence[TargetValue]:
        """The labels whose probability reaches the threshold."""
        labels, reached = label_info(info).labels, predict(outputs[None], [decision])[0].tolist()
        return [tuple(label for label, own in zip(labels, row, strict=True) if own) for row in reached]

    def heads_loss(self, configs: Sequence[TrainConfig], targets: Tensor, info: DatasetInfo) -> HeadsLabelLoss:
        """Binary cross entropy, weighted for the members that ask for it."""
        return HeadsLabelLoss([_asked(config).pos_weight == "balanced" for config in configs], balanced_weights(targets))

    def heads_tally(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Logits [M, L, B] → [M, B, L]."""
        return outputs.transpose(1, 2)


def _sets(dataset: Dataset) -> list[tuple[str, ...]]:
    """The labels of each content."""
    if not isinstance(dataset, HasTargets) or any(not isinstance(target, tuple) for target in dataset.targets):
        raise TypeError(f"{type(dataset).__name__} has no sets of labels")
    return [target for target in dataset.targets if isinstance(target, tuple)]


def _names(sets: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(sorted({name for own in sets for name in own}))


def _known_mean(values: Tensor, logits: Tensor) -> Tensor:
    """The mean of values [M, L] over the labels for which they are defined [M]; 0 without any, NaN for a model with a logit of NaN."""
    known = values.isfinite()
    found = values.nan_to_num().sum(1) / known.sum(1).clamp(min=1)
    return found.masked_fill(logits.isnan().flatten(1).any(1), torch.nan)


def _report(logits: Tensor, actual: Tensor, labels: Sequence[str], threshold: float, names: Names | None) -> LabelReport:
    """The report of logits and labels [N, L]."""
    predicted = predict(logits[None], [threshold])
    counts, (areas, precisions) = count(predicted, actual), ranking(sorted_by_label(logits[None], actual))
    columns = (counts.actual, counts.predicted, counts.hits, counts.precision, counts.recall, counts.f1, areas, precisions)
    scores = dict[str, LabelScores]()
    for label, row in zip(labels, torch.stack([column[0] for column in columns], 1).tolist(), strict=True):
        having, answered, hits, precision, recall, f1, area, average = row
        scores[label] = LabelScores(
            examples=int(having), predicted=int(answered), hits=int(hits), precision=precision, recall=recall, f1=f1,
            auroc=None if area != area else area, average_precision=None if average != average else average,
        )  # fmt: skip
    worst = tuple(_worst(logits, predicted[0], actual, labels, names)) if names is not None else ()
    return LabelReport(threshold=threshold, per_label=scores, worst_labels=worst)


def _worst(logits: Tensor, predicted: Tensor, actual: Tensor, labels: Sequence[str], names: Names) -> list[WrongLabels]:
    """The examples with wrong labels that have the largest losses."""
    losses = losses_of(logits, actual).nan_to_num(nan=MOST_LOSS, posinf=MOST_LOSS).masked_fill((predicted == actual).all(1), -1.0)
    worst = losses.sort(descending=True, stable=True)
    rows = worst.indices[:MOST_WORST][worst.values[:MOST_WORST] >= 0].tolist()
    found = list[WrongLabels]()
    for row, example in zip(rows, names(rows), strict=True):
        missing, extra = (actual[row] & ~predicted[row]).tolist(), (predicted[row] & ~actual[row]).tolist()
        found.append(
            WrongLabels(
                **dict(example),
                missing=tuple(label for label, own in zip(labels, missing, strict=True) if own),
                extra=tuple(label for label, own in zip(labels, extra, strict=True) if own),
                loss=float(losses[row]),
            )
        )
    return found


def _test_report(logits: Tensor, actual: Tensor, labels: Sequence[str], threshold: float, names: Names | None) -> LabelTestReport:
    report, listed = _report(logits, actual, labels, threshold, names), logits.numel() <= MOST_CELLS
    values = logits.nan_to_num(nan=0.0).clamp(-HIGHEST_LOGIT, HIGHEST_LOGIT).cpu().numpy()
    return LabelTestReport(
        **dict(report),
        target_bits=_bits(actual) if listed else None,
        predicted_bits=_bits(predict(logits[None], [threshold])[0]) if listed else None,
        logits=encode(values, "<f2") if listed else None,
    )


def _bits(flags: Tensor) -> str:
    return encode(np.packbits(flags.cpu().numpy()), "u1")


_asked: Callable[[TrainConfig], LabelHyperparameters] = narrowing(LabelHyperparameters, "has no hyperparameters of labels")
