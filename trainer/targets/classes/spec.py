"""The TargetSpec of classes: one class for each example. Imports no torch."""

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel

import trainer.targets.classes.card as card
from trainer.configuration import DatasetInfo, Part, narrowing
from trainer.data.targets import TargetReader
from trainer.targets.classes.config import ClassInfo, ClassReport, ClassTestReport, WrongClass
from trainer.tasks.base import Metric
from trainer.tasks.capabilities import CardData, CardSection, ConstantScore, ExampleScores, Spellings
from trainer.tasks.composition import ComposedSpec, Problem

SPELLINGS = Spellings(
    hyperparameters={"label_smoothing": "label_smoothing_factor smoothing", "focal_gamma": "focal_loss_gamma"},
    metrics={
        "accuracy": "acc val_acc val_accuracy eval_accuracy valid_accuracy validation_accuracy test_accuracy mean_accuracy top1 "
        "top1_accuracy",
        "loss": "val_loss eval_loss valid_loss validation_loss cross_entropy",
        "f1": "f1_score val_f1 eval_f1 f1_macro macro_f1",
        "precision": "val_precision eval_precision precision_macro",
        "recall": "val_recall eval_recall recall_macro",
        "top_5_accuracy": "top5 top_5 top5_accuracy val_top5 acc5",
        "balanced_accuracy": "balanced_accuracy_score balanced_acc bal_acc",
        "micro_precision": "precision_micro",
        "micro_recall": "recall_micro",
        "micro_f1": "f1_micro",
        "weighted_precision": "precision_weighted",
        "weighted_recall": "recall_weighted",
        "weighted_f1": "f1_weighted",
        "matthews": "mcc matthews_correlation matthews_corrcoef eval_matthews_correlation",
        "auroc": "auc roc_auc rocauc roc_auc_score eval_roc_auc",
        "average_precision": "pr_auc auprc average_precision_score",
        "ece": "calibration_error expected_calibration_error",
    },
    dropped="num_classes",
)


def _share(*, additive: bool = False) -> Metric:
    return Metric("maximize", low=0.0, high=1.0, unit="share", resolution="example", additive=additive)


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "accuracy": _share(additive=True),
        "precision": _share(),
        "recall": _share(),
        "f1": _share(),
        "loss": Metric("minimize", low=0.0, unit="nats", additive=True),
        "top_5_accuracy": _share(additive=True),
        "balanced_accuracy": _share(),
        "micro_precision": _share(additive=True),
        "micro_recall": _share(additive=True),
        "micro_f1": _share(additive=True),
        "weighted_precision": _share(),
        "weighted_recall": _share(additive=True),
        "weighted_f1": _share(),
        "matthews": Metric("maximize", low=-1.0, high=1.0),
        "auroc": Metric("maximize", low=0.0, high=1.0, unit="share"),
        "average_precision": Metric("maximize", low=0.0, high=1.0, unit="share"),
        "ece": Metric("minimize", low=0.0, high=1.0, unit="share"),
    }
)
"""Precision, recall, F1, AUROC and average precision are means over the classes, `micro_` counts all classes together,
and `weighted_` weights the classes by their examples; the loss is the cross entropy; ece is the expected calibration error with 15 bins."""
RANKED = frozenset({"loss", "top_5_accuracy", "auroc", "average_precision"})  # depend on more than the predicted class
EVERY_CLASS_ALIKE = frozenset({"precision", "recall", "f1", "balanced_accuracy", "matthews", "auroc", "average_precision"})

MEANS_OVER_CLASSES = "recall (its mean over the classes is balanced accuracy) and f1 count every class alike"
REMEDIES = "class_weights: balanced and sampling: balanced train with every class counting alike"


def majority(info: ClassInfo, part: Part, name: str, example: str) -> ConstantScore | None:
    """The score of always predicting the largest class or, for the loss, of predicting the class frequencies.

    None if the counts by class are unknown, the part has no examples, or there is no such metric.
    """
    counts = info.class_counts.get(part, ()) if info.class_counts is not None else ()
    if not sum(counts) or name not in METRICS or name == "ece":  # the shares of the classes are calibrated, and predict nothing
        return None
    most = max(counts)
    largest = [info.classes[place] for place, count in enumerate(counts) if count == most]
    label, share = largest[0], most / sum(counts)
    value = _score(name, counts, share)
    equal = len({*counts}) == len({*(info.class_counts or {}).get("train", counts)}) == 1  # then classes count alike in any case
    one = "it" if len(largest) == 1 else "one of them"
    answering = "Answering the shares of the classes" if name in RANKED else f"Always answering {one}"
    advice = f"{MEANS_OVER_CLASSES}; {REMEDIES}" if name not in EVERY_CLASS_ALIKE else REMEDIES
    return ConstantScore(
        label=label,
        share=share,
        value=value,
        sentence=f"{_largest(largest, len(counts))} {100 * share:.1f} % of the {part} {example}s. "
        f"{answering} gives {name} {METRICS[name].shown(value)}.",
        advice="" if equal else f"{advice[:1].upper()}{advice[1:]}.",
    )


def _largest(names: Sequence[str], classes: int) -> str:
    """The beginning of a sentence about the share of the largest class, or of the classes that share this size."""
    if len(names) == 1:
        return f"The largest class, {names[0]}, has"
    if len(names) == classes:
        return f"Each of the {classes} classes has"
    named = f", {' and '.join(names)}," if len(names) == 2 else ""
    return f"Each of the {len(names)} largest classes{named} has"


def _score(metric: str, counts: Sequence[int], share: float) -> float:
    """The metric of the constant prediction, with macro means over the classes that have examples, as in the trainer."""
    present = sum(count > 0 for count in counts)
    match metric:
        case "recall" | "balanced_accuracy" | "average_precision":
            return 1 / present
        case "weighted_precision":
            return share**2
        case "weighted_f1":
            return 2 * share**2 / (1 + share)
        case "matthews":
            return 0.0
        case "auroc":
            return 0.5
        case "top_5_accuracy":
            return sum(sorted(counts)[-5:]) / sum(counts)
        case "precision":
            return share / present
        case "f1":
            return 2 * share / (1 + share) / present
        case "loss":
            return -sum(count / sum(counts) * math.log(count / sum(counts)) for count in counts if count)
        case _:
            return share


class ClassesSpec(ComposedSpec):
    """One class for each example."""

    target = "classes"
    problem: Problem = "single_label_classification"
    stratum = "class"
    metrics = METRICS
    Report = ClassReport
    TestReport = ClassTestReport
    Summary = card.ClassSummary
    page = "classes"
    worst = ("worst_classes", WrongClass)
    shared_of_target: tuple[str, ...] = ("sampling",)
    reader: TargetReader | None = None
    spellings_of_target = SPELLINGS

    def outputs(self, info: DatasetInfo) -> int:
        """The number of classes."""
        return len(class_info(info).classes)

    def output_names(self, info: DatasetInfo) -> tuple[str, ...]:
        """The classes."""
        return class_info(info).classes

    def constant(self, info: DatasetInfo, part: Part, metric: str) -> ConstantScore | None:
        """See `majority`."""
        return majority(class_info(info), part, metric, self.example)

    def examples(self, report: BaseModel) -> ExampleScores | None:
        """The predictions for the test examples."""
        from trainer.targets.classes.predictions import Predictions  # imports numpy, which few importers of this module need

        return Predictions.of(ClassTestReport.model_validate(report))

    def summary(self, info: DatasetInfo, reports: Sequence[Mapping[str, Any]]) -> card.ClassSummary:
        """The results by class."""
        return card.ClassSummary(by_class=card.by_class(class_info(info).classes, [one.get("confusion_matrix") for one in reports]))

    def card_of_target(self, info: DatasetInfo) -> CardData:
        """The contents about the classes."""
        return card.data_of(class_info(info))

    def reading(self, info: DatasetInfo) -> str:
        """The labels with the largest outputs."""
        return "labels = [model.config.id2label[place] for place in logits.argmax(1).tolist()]\n"

    def card_results(self, info: DatasetInfo, summary: BaseModel, where: str) -> CardSection | None:
        """The section of results by class."""
        by_class = summary.by_class if isinstance(summary, card.ClassSummary) else None
        return None if by_class is None else card.results_of(class_info(info).classes, by_class, where, self.example)


class_info: Callable[[DatasetInfo], ClassInfo] = narrowing(ClassInfo, "has no classes")
