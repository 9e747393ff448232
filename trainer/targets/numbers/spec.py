"""The TargetSpec of numbers: one number for each example. Imports no torch."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel

import trainer.targets.numbers.card as card
from trainer.configuration import DataConfig, DatasetInfo, Part, narrowing
from trainer.data.examples import Example, UnfitData
from trainer.data.targets import Strata
from trainer.targets.numbers.config import NumberInfo, NumberReport, NumberTestReport, WrongNumber, number_of
from trainer.tasks.base import Metric
from trainer.tasks.capabilities import CardData, CardSection, ConstantScore, ExampleScores, Spellings
from trainer.tasks.composition import ComposedSpec, Problem

SPELLINGS = Spellings(
    hyperparameters={"loss": "loss_fn criterion loss_function", "huber_delta": "delta"},
    metrics={
        "rmse": "root_mean_squared_error val_rmse eval_rmse",
        "mae": "mean_absolute_error val_mae eval_mae",
        "r2": "r2_score val_r2 eval_r2 r_squared",
        "pearson": "pearsonr pearson_correlation eval_pearson",
        "spearman": "spearmanr spearman_correlation eval_spearman eval_spearmanr",
    },
    words={"loss": {"mse": "mse_loss l2 mean_squared_error", "l1": "mae l1_loss mean_absolute_error", "huber": "smooth_l1 huber_loss"}},
    dropped="num_labels problem_type",
)
METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "rmse": Metric("minimize", low=0.0),
        "mae": Metric("minimize", low=0.0, additive=True),
        "r2": Metric("maximize", high=1.0),
        "pearson": Metric("maximize", low=-1.0, high=1.0),
        "spearman": Metric("maximize", low=-1.0, high=1.0),
    }
)
"""Errors are in the unit of the data."""


@dataclass(frozen=True, slots=True)
class NumberReader:
    """Implements `trainer.data.targets.TargetReader`: a target is the shortest decimal form of its number."""

    example: str  # noun for one example

    def parse(self, text: str, data: DataConfig) -> str:
        """The number with all its digits, in one form. Raises ValueError with the reason for a text that is no finite number."""
        return repr(number_of(text))

    def value(self, target: str) -> float:
        """The number."""
        return float(target)

    def names(self, targets: Iterable[str]) -> tuple[str, ...]:
        """None: numbers have no names."""
        return ()

    def refuse(self, data: DataConfig, examples: Sequence[Example], given: Sequence[Part]) -> None:
        """Raises UnfitData if all targets are equal, or all of those to train on."""
        for part in (None, "train"):
            own = {example.label for example in examples if part is None or example.part == part}
            if len(own) == 1 and (part is None or part in given):
                where = "" if part is None else " of the train part"
                text = f"every target{where} is {float(next(iter(own))):g}, so there is nothing to learn; give targets that differ"
                raise UnfitData("one_target", text, unnamed=f"all targets{where} are equal, so there is nothing to learn")

    def strata(self, counts: Mapping[str, "Counter[Part | None]"], data: DataConfig, given: Sequence[Part]) -> Strata:
        """All examples are one stratum."""
        return Strata(names=(f"all {self.example}s",), of=dict.fromkeys(counts, 0))


class NumbersSpec(ComposedSpec):
    """One number for each example."""

    target = "numbers"
    problem: Problem = "regression"
    stratum = "table"
    metrics = METRICS
    Report = NumberReport
    TestReport = NumberTestReport
    Summary = card.NumberSummary
    page = "numbers"
    worst = ("worst_numbers", WrongNumber)
    shared_of_target: tuple[str, ...] = ()
    spellings_of_target = SPELLINGS

    @property
    def reader(self) -> NumberReader:
        """Reads decimal numbers."""
        return NumberReader(self.example)

    def outputs(self, info: DatasetInfo) -> int:
        """One number."""
        return 1

    def output_names(self, info: DatasetInfo) -> tuple[str, ...]:
        """One name."""
        return ("value",)

    def constant(self, info: DatasetInfo, part: Part, metric: str) -> ConstantScore | None:
        """The score of always predicting the part's mean or, for mae, its median. None for metrics that a constant does not have."""
        found = number_info(info).numbers.get(part)
        if found is None or metric not in ("rmse", "mae", "r2"):
            return None
        kind, label = ("median", found.median) if metric == "mae" else ("mean", found.mean)
        value = {"rmse": found.std, "mae": found.mean_deviation, "r2": 0.0}[metric]
        return ConstantScore(
            label=f"{label:g}",
            share=0.0,
            value=value,
            sentence=f"The {kind} of the {part} {self.example}s is {label:g}. "
            f"Always answering it gives {metric} {METRICS[metric].shown(value)}.",
            advice="",
        )

    def examples(self, report: BaseModel) -> ExampleScores | None:
        """The residuals of the test examples."""
        from trainer.targets.numbers.scores import Residuals  # imports numpy, which few importers of this module need

        return Residuals.of(NumberTestReport.model_validate(report))

    def summary(self, info: DatasetInfo, reports: Sequence[Mapping[str, Any]]) -> card.NumberSummary:
        """The residuals of the runs."""
        return card.summary_of(reports)

    def card_of_target(self, info: DatasetInfo) -> CardData:
        """The contents about the targets."""
        return card.data_of(number_info(info), f"{self.example}s")

    def reading(self, info: DatasetInfo) -> str:
        """The outputs in the unit of the data."""
        mean, std = number_info(info).scale
        return f"values = {mean!r} + {std!r} * logits[:, 0]  # in the unit of the data\n"

    def card_results(self, info: DatasetInfo, summary: BaseModel, where: str) -> CardSection | None:
        """The section of residuals."""
        found = summary.residuals if isinstance(summary, card.NumberSummary) else None
        return None if found is None else card.results_of(found, where)


number_info: Callable[[DatasetInfo], NumberInfo] = narrowing(NumberInfo, "has no facts about numbers")
