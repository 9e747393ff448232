"""The TargetSpec of labels: a set of labels for each example. Imports no torch."""

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel

import trainer.targets.labels.card as card
from trainer.configuration import DatasetInfo, Part, narrowing
from trainer.targets.labels.config import LabelInfo, LabelReport, LabelTestReport, WrongLabels
from trainer.targets.labels.reader import LabelReader
from trainer.tasks.base import Metric
from trainer.tasks.capabilities import CardData, CardSection, ConstantScore, ExampleScores, Spellings
from trainer.tasks.composition import ComposedSpec, Problem

SPELLINGS = Spellings(
    metrics={
        "f1": "f1_score macro_f1 f1_macro val_f1 eval_f1 eval_f1_macro",
        "precision": "macro_precision precision_macro val_precision eval_precision",
        "recall": "macro_recall recall_macro val_recall eval_recall",
        "micro_f1": "f1_micro eval_f1_micro",
        "micro_precision": "precision_micro",
        "micro_recall": "recall_micro",
        "hamming": "hamming_loss hamming_distance",
        "subset_accuracy": "exact_match exact_match_ratio accuracy eval_accuracy",
        "auroc": "roc_auc roc_auc_macro auc eval_roc_auc",
        "average_precision": "map mean_average_precision",
        "loss": "val_loss eval_loss bce binary_cross_entropy",
    },
    dropped="num_labels problem_type",
)


def _share(*, resolution: bool = True) -> Metric:
    return Metric("maximize", low=0.0, high=1.0, unit="share", resolution="example" if resolution else 0.0)


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "f1": _share(),
        "precision": _share(),
        "recall": _share(),
        "micro_f1": _share(),
        "micro_precision": _share(),
        "micro_recall": _share(),
        "hamming": Metric("minimize", low=0.0, high=1.0, unit="share", additive=True),
        "subset_accuracy": Metric("maximize", low=0.0, high=1.0, unit="share", resolution="example", additive=True),
        "auroc": _share(resolution=False),
        "average_precision": _share(resolution=False),
        "loss": Metric("minimize", low=0.0, unit="nats", additive=True),
    }
)
"""F1, precision, recall, auroc and average precision are means over the labels; hamming is the share of wrong decisions; the loss is the
binary cross entropy, the mean over the labels."""
REMEDY = "pos_weight: balanced trains with the examples that have a label counting as much as those that lack it"


class LabelsSpec(ComposedSpec):
    """A set of labels for each example."""

    target = "labels"
    problem: Problem = "multi_label_classification"
    stratum = "label"
    metrics = METRICS
    Report = LabelReport
    TestReport = LabelTestReport
    Summary = card.LabelSummary
    page = "labels"
    worst = ("worst_labels", WrongLabels)
    shared_of_target: tuple[str, ...] = ()
    spellings_of_target = SPELLINGS
    reader = LabelReader()

    def outputs(self, info: DatasetInfo) -> int:
        """The number of labels."""
        return len(label_info(info).labels)

    def output_names(self, info: DatasetInfo) -> tuple[str, ...]:
        """The labels."""
        return label_info(info).labels

    def constant(self, info: DatasetInfo, part: Part, metric: str) -> ConstantScore | None:
        """The score of the best constant answer. None for metrics of rankings, which a constant does not have."""
        return constant_of(label_info(info), part, metric, self.example)

    def examples(self, report: BaseModel) -> ExampleScores | None:
        """The predictions for the test examples."""
        from trainer.targets.labels.scores import LabelPredictions  # imports numpy, which few importers of this module need

        return LabelPredictions.of(LabelTestReport.model_validate(report))

    def summary(self, info: DatasetInfo, reports: Sequence[Mapping[str, Any]]) -> card.LabelSummary:
        """The results by label."""
        return card.summary_of(reports)

    def card_of_target(self, info: DatasetInfo) -> CardData:
        """The contents about the labels."""
        return card.data_of(label_info(info))

    def reading(self, info: DatasetInfo) -> str:
        """The labels whose probability reaches the threshold in the exported file."""
        return (
            "from safetensors import safe_open\n\n"
            'with safe_open("model/model.safetensors", "pt") as file:\n'
            '    threshold = float(file.metadata()["threshold"])\n'
            "probabilities = logits.sigmoid().tolist()\n"
            "labels = [[model.config.id2label[place] for place, share in enumerate(row) if share >= threshold] for row in probabilities]\n"
        )

    def card_results(self, info: DatasetInfo, summary: BaseModel, where: str) -> CardSection | None:
        """The section of results by label."""
        return card.results_of(summary, where) if isinstance(summary, card.LabelSummary) and summary.by_label else None


def constant_of(info: LabelInfo, part: Part, metric: str, example: str) -> ConstantScore | None:
    """The best of: every label for each example, no label for each example; for the loss, each label's share.

    None if the part has no examples, and for a metric of rankings.
    """
    counts, count = info.label_counts.get(part, ()), info.sizes.get(part, 0)
    if not count or not counts or metric not in METRICS or metric in ("auroc", "average_precision"):
        return None
    shares = [own / count for own in counts]
    all_labels, none = _scores(metric, shares, info.without_labels.get(part, 0) / count)
    maximize = METRICS[metric].direction == "maximize"
    if metric == "loss":
        answer, value = "the share of each label", none
    else:
        answer, value = ("every label", all_labels) if (all_labels > none) == maximize and all_labels != none else ("no label", none)
    return ConstantScore(
        label=answer,
        share=0.0,
        value=value,
        sentence=f"A label applies on average to {100 * sum(shares) / len(shares):.1f} % of the {part} {example}s. "
        f"Always answering {answer} gives {metric} {METRICS[metric].shown(value)}.",
        advice=f"{REMEDY}." if metric in ("recall", "f1", "micro_f1", "micro_recall") else "",
    )


def _scores(metric: str, shares: Sequence[float], without: float) -> tuple[float, float]:
    """The metric of always answering every label, and of always answering none. `shares`: of the examples that have each label."""
    mean = sum(shares) / len(shares)
    match metric.removeprefix("micro_"), metric.startswith("micro_"):
        case "f1", True:
            return 2 * mean / (1 + mean), 0.0
        case "f1", False:
            return sum(2 * share / (1 + share) for share in shares) / len(shares), 0.0
        case "precision", _:
            return mean, 0.0
        case "recall", True:
            return 1.0 if mean else 0.0, 0.0
        case "recall", False:
            return sum(share > 0 for share in shares) / len(shares), 0.0
        case "hamming", _:
            return 1 - mean, mean
        case "subset_accuracy", _:
            return 0.0, without
        case _:
            entropy = sum(-part * math.log(part) for share in shares for part in (share, 1 - share) if part > 0) / len(shares)
            return entropy, entropy


label_info: Callable[[DatasetInfo], LabelInfo] = narrowing(LabelInfo, "has no labels")
