"""A second task: a number in a column of a CSV file is predicted from the other columns. The half without torch."""

import csv
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, FiniteFloat

from trainer.configuration import DataConfig, DatasetInfo, Frozen, Hyperparameters, ModelConfig, Part, TrainConfig
from trainer.data.examples import Look, UnfitData
from trainer.tasks.base import Counted, Metric, ModelInfo
from trainer.tasks.capabilities import CardData, CardSection, CardTable, ConstantScore


class NumberData(DataConfig):
    target: str = Field(min_length=1, max_length=200)


class NumberHyperparameters(Hyperparameters):
    l2: FiniteFloat = Field(default=0.0, ge=0, le=10, description="factor of the squared predictions in the loss")


class NumberTrainConfig(NumberHyperparameters, TrainConfig):
    task: Literal["regression"] = "regression"
    data: NumberData
    model: ModelConfig


class NumberInfo(DatasetInfo):
    task: Literal["regression"] = "regression"
    rows: Mapping[str, int]
    means: Mapping[str, FiniteFloat]
    variances: Mapping[str, FiniteFloat]
    columns: int = Field(default=1, description="besides the target")

    @property
    def sizes(self) -> Mapping[str, int]:
        return self.rows


class Report(Frozen):
    residuals: tuple[FiniteFloat, ...] = Field(min_length=3, max_length=3, description="at 5, 50 and 95 %")


class TestReport(Report):
    """The same with the residual, prediction less target, and the target of each example."""

    each: tuple[FiniteFloat, ...] = ()
    targets: tuple[FiniteFloat, ...] = ()


class Residuals(Frozen):
    median_residual: FiniteFloat | None = None


class Perceptron(ModelInfo):
    stages, weights = 2, ()


@dataclass(frozen=True, eq=False)
class Rows:
    """Residuals and targets of N test rows, each (N,)."""

    residuals: NDArray[np.float64]
    targets: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.residuals)

    def are_those_of(self, other: "Rows") -> bool:
        return np.array_equal(self.targets, other.targets)

    def has_scores(self, metric: str) -> bool:
        return bool(np.isfinite(self.residuals).all())

    def scores(self, metric: str) -> NDArray[np.float64]:
        """The jackknife's pseudo-values."""
        each = np.stack([self.residuals**2, self.targets, self.targets**2])
        total, count = each.sum(axis=1, keepdims=True), len(self)
        return count * _metric(metric, total, count) - (count - 1) * _metric(metric, total - each, count - 1)


def _metric(name: str, sums: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """From sums over rows, (3, ...): squared residuals, targets, squared targets."""
    squares, total, total_squares = sums
    found: NDArray[np.float64] = np.sqrt(squares / count) if name == "rmse" else 1 - squares / (total_squares - total**2 / count)
    return found


def read(data: DataConfig) -> list[tuple[str, list[float], float]]:
    """Digest, values and target of each row. Raises UnfitData."""
    assert isinstance(data, NumberData)
    try:
        rows = list(csv.DictReader(Path(data.path).read_text().splitlines()))
        numbers = [([float(row[name]) for name in row if name != data.target], float(row[data.target])) for row in rows]
    except OSError as error:
        raise UnfitData("missing_data", f"{data.path} cannot be read: {error.strerror}; correct the path") from None
    except (KeyError, TypeError, ValueError) as error:
        raise UnfitData("unfit_table", f"{error!r}: every row needs a number in each column", place=("data", "target")) from None
    return [(sha256(repr(row).encode()).hexdigest(), *row) for row in numbers]


class Regression:
    name = "regression"
    example = "row"
    metrics: Mapping[str, Metric] = {"r2": Metric("maximize", high=1.0), "rmse": Metric("minimize", low=0.0, unit="EUR")}
    Report, TestReport, Summary, Hyperparameters = Report, TestReport, Residuals, NumberHyperparameters
    size = None
    shared = ("batch_size", "precision", "order_seed", "frozen_layers")
    stand_ins: Mapping[str, Any] = {
        "data": {"path": "rents.csv", "target": "rent"}, "model": {"name": "perceptron"},
        "objective": {"metric": "rmse", "direction": "minimize"},
    }  # fmt: skip
    lines: Mapping[str, str] = {
        "data": "data: {path: /path/to/table.csv, target: COLUMN}", "model": "model: {name: perceptron}",
        "search_space": "search_space: {l2: {type: float, low: 0, high: 1}}",
        "objective": "objective: {metric: rmse, direction: minimize}",
    }  # fmt: skip

    def models(self) -> Collection[str]:
        return ("perceptron",)

    def describe(self, model: str) -> Perceptron:
        return {"perceptron": Perceptron()}[model]

    def count(self, data: DataConfig, look: Look) -> Counted:
        return Counted((), {"rows": Counter[Part | None]({None: len(read(data))})})

    def trains_together(self, model: ModelInfo, values: Mapping[str, Any]) -> bool:
        return True

    def head_parameters(self, model: ModelInfo, info: DatasetInfo) -> int:
        return 9

    def examples(self, report: BaseModel) -> Rows | None:
        found = TestReport.model_validate(report)
        return Rows(np.array(found.each), np.array(found.targets)) if found.targets else None

    def constant(self, info: DatasetInfo, part: Part, metric: str) -> ConstantScore | None:
        assert isinstance(info, NumberInfo)
        value = {"r2": 0.0, "rmse": info.variances[part] ** 0.5}[metric]
        mean = info.means[part]
        sentence = f"The mean of the {part} rows is {mean:g}. Always answering it gives {metric} {self.metrics[metric].shown(value)}."
        return ConstantScore(label=f"{mean:g}", share=0.0, value=value, sentence=sentence, advice="")

    def summary(self, info: DatasetInfo, reports: Sequence[Mapping[str, Any]]) -> Residuals:
        middle = sorted(one["residuals"][1] for one in reports)
        return Residuals(median_residual=middle[len(middle) // 2] if middle else None)

    def card_data(self, config: TrainConfig, info: DatasetInfo) -> CardData:
        assert isinstance(config, NumberTrainConfig)
        return CardData(opening=f"Regression of the column {config.data.target}.")

    def card_results(self, info: DatasetInfo, summary: BaseModel, where: str) -> CardSection | None:
        assert isinstance(summary, Residuals)
        return CardSection("Residuals", (f"Median {where}.", CardTable(("", "EUR"), [("median", summary.median_residual)])))


SPEC = Regression()
