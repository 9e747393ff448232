"""The TargetSpec of labels: a set of labels for each example. Imports no torch."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel

import trainer.targets.labels.card as card
from trainer.configuration import DataConfig, DatasetInfo, Part
from trainer.data.examples import Example, UnfitData, enumerated, shown
from trainer.data.targets import Strata, TargetReader
from trainer.targets.base import Problem
from trainer.targets.labels.config import (
    MAX_LABEL_NAME,
    MOST_LABELS,
    LabelInfo,
    LabelReport,
    LabelTestReport,
    SeparatesLabels,
    joined,
    names_of,
    parted,
)
from trainer.targets.labels.strata import strata_of
from trainer.tasks.base import Metric
from trainer.tasks.capabilities import CardData, CardSection, ConstantScore, ExampleScores, Spellings

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


class LabelsSpec:
    """A set of labels for each example, as `trainer.targets.base.TargetSpec`."""

    name = "labels"
    problem: Problem = "multi_label_classification"
    stratum = "label"
    metrics = METRICS
    Report = LabelReport
    TestReport = LabelTestReport
    Summary = card.LabelSummary
    page = "labels"
    shared: tuple[str, ...] = ()
    spellings = SPELLINGS

    def __init__(self, example: str) -> None:
        """`example`: the task's noun for one example."""
        self.example = example

    @property
    def reader(self) -> TargetReader:
        """This target itself."""
        return self

    def parse(self, text: str, data: DataConfig) -> str:
        """The set of names in a cell. Raises ValueError with the reason for a cell with an empty name."""
        if not isinstance(data, SeparatesLabels):
            raise TypeError(f"{type(data).__name__} has no separator of labels")
        return joined(names_of(text, data.label_separator))

    def value(self, target: str) -> tuple[str, ...]:
        """The names, sorted."""
        return parted(target)

    def names(self, targets: Iterable[str]) -> tuple[str, ...]:
        """The names of all labels, sorted."""
        return tuple(sorted({name for target in targets for name in parted(target)}))

    def refuse(self, data: DataConfig, examples: Sequence[Example], given: Sequence[Part]) -> None:
        """Raises UnfitData for fewer than two labels, too many, a name that is too long, and a label that the train part lacks."""
        names = self.names({example.label for example in examples})
        if len(names) < 2:
            found = f"one label only ({shown(names[0])})" if names else "no label"
            raise UnfitData(
                "one_label",
                f"{shown(data.path)} has {found}; a multi-label task needs two or more: correct the target column, or data.label_separator",
                unnamed="fewer than two labels were found; a multi-label task needs two or more: correct the target column, or "
                "data.label_separator",
            )
        if len(names) > MOST_LABELS:
            text = f"{len(names):,} different labels were found, and a study has {MOST_LABELS:,} at most; correct data.label_separator"
            raise UnfitData("too_many_labels", text)
        if long := [name for name in names if len(name) > MAX_LABEL_NAME]:
            text = f"{len(long)} label names have more than {MAX_LABEL_NAME} characters"
            raise UnfitData("long_label_names", f"{text}: {enumerated(long)}; shorten them", unnamed=f"{text}; shorten them")
        if "train" in given:
            trained = {name for example in examples if example.part == "train" for name in parted(example.label)}
            if lacking := [name for name in names if name not in trained]:
                start = f"{len(lacking)} labels are in other parts of the data's own split and not in its train part"
                remedy = "add examples to train, or remove the labels"
                raise UnfitData("label_missing_in_part", f"{start}: {enumerated(lacking)}; {remedy}", unnamed=f"{start}; {remedy}")

    def strata(self, counts: Mapping[str, "Counter[Part | None]"], data: DataConfig, given: Sequence[Part]) -> Strata:
        """The stratum of an example is its rarest label; rare strata are merged."""
        return strata_of(counts, data, given)

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

    def card_data(self, info: DatasetInfo) -> CardData:
        """The contents about the labels."""
        return card.data_of(label_info(info))

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
        sentence=f"On average {100 * sum(shares) / len(shares):.1f} % of the {part} {example}s have a label. "
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


def label_info(info: DatasetInfo) -> LabelInfo:
    """The info as that of a task with labels. Raises TypeError for another one."""
    if not isinstance(info, LabelInfo):
        raise TypeError(f"{type(info).__name__} has no labels")
    return info
