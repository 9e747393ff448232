"""Sections of the model card of a multi-label task."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from pydantic import Field, FiniteFloat

from trainer.configuration import Frozen
from trainer.targets.labels.config import LabelInfo, LabelScores
from trainer.tasks.capabilities import CardData, CardSection, CardTable

MOST_IN_A_TABLE = 60  # labels
LONGEST_NAME = 200  # characters


class LabelResult(Frozen):
    """Results for one label, means over the runs."""

    examples: int = Field(description="that have the label")
    precision: FiniteFloat
    recall: FiniteFloat
    f1: FiniteFloat


class LabelSummary(Frozen):
    """The summary of the runs' reports in an exported file."""

    threshold: FiniteFloat | None = Field(
        default=None, description="of a label's probability, the mean over the runs; each run chooses its own on the validation examples"
    )
    by_label: Mapping[str, LabelResult] | None = Field(default=None, description="means over the runs")


def summary_of(reports: Sequence[Mapping[str, Any]]) -> LabelSummary:
    """The means of the runs' results by label."""
    tables = [table for one in reports if (table := one.get("per_label"))]
    if not tables or any(table.keys() != tables[0].keys() for table in tables):
        return LabelSummary()
    each = {name: [LabelScores.model_validate(table[name]) for table in tables] for name in tables[0]}
    return LabelSummary(
        threshold=fmean(one["threshold"] for one in reports if one.get("per_label")),
        by_label={name: _mean(own) for name, own in each.items()},
    )


def _mean(own: Sequence[LabelScores]) -> LabelResult:
    return LabelResult(
        examples=own[0].examples,
        precision=fmean(one.precision for one in own),
        recall=fmean(one.recall for one in own),
        f1=fmean(one.f1 for one in own),
    )


def data_of(info: LabelInfo) -> CardData:
    """The card's contents about the labels, with the number of examples that have each."""
    names = ", ".join(map(_short, info.labels[:MOST_IN_A_TABLE]))
    more = f" and {len(info.labels) - MOST_IN_A_TABLE} more" if len(info.labels) > MOST_IN_A_TABLE else ""
    return CardData(
        opening=f"multi-label classification, {len(info.labels)} labels: {names}{more}.",
        counts=tuple(_counts(info)),
        split="content, stratified by the rarest label",
    )


def _short(name: str) -> str:
    return (name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…").strip()


def _counts(info: LabelInfo) -> Iterator[str | CardTable]:
    """Examples with each label by part; only the most and least frequent labels if there are more than MOST_IN_A_TABLE."""
    parts = [part for part in ("train", "validation", "test") if info.sizes.get(part)]
    counted = [(name, [info.label_counts[part][label] for part in parts]) for label, name in enumerate(info.labels)]
    if len(counted) > MOST_IN_A_TABLE:
        half = MOST_IN_A_TABLE // 2
        counted.sort(key=lambda one: -sum(one[1]))
        counted = counted[:half] + counted[-half:]
        yield f"The {half} most frequent and the {half} least frequent labels:"
    rows = [(name, *counts) for name, counts in counted]
    if any(info.without_labels.values()):
        rows.append(("(no label)", *(info.without_labels.get(part, 0) for part in parts)))
    yield CardTable(("label", *parts), rows)


def results_of(summary: LabelSummary, where: str) -> CardSection:
    """Precision, recall and F1 of each label, least F1 first if there are many, and the threshold."""
    rows = list((summary.by_label or {}).items())
    if many := len(rows) > MOST_IN_A_TABLE:
        rows = sorted(rows, key=lambda row: row[1].f1)[:MOST_IN_A_TABLE]
    table = [(name, one.examples, *(f"{100 * share:.1f} %" for share in (one.precision, one.recall, one.f1))) for name, one in rows]
    threshold = f"A label is predicted from a probability of {summary.threshold:.2f} on, chosen on the validation examples by the F1."
    few = f" The {MOST_IN_A_TABLE} labels with the lowest F1:" if many else ""
    heads = ("label", "examples", "precision", "recall", "F1")
    return CardSection("Label by label", (f"Precision, recall and F1 {where}. {threshold}{few}", CardTable(heads, table)))
