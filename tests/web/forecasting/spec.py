"""The torch-free half of the task. Nothing trains it."""

from collections.abc import Collection, Mapping
from typing import Any, Literal

from pydantic import BaseModel

from trainer.configuration import DataConfig, DatasetInfo, Frozen, Hyperparameters, TrainConfig
from trainer.data.examples import Look
from trainer.tasks.base import Counted, Metric, ModelInfo


class ForecastTrainConfig(TrainConfig):
    """One run on series."""

    task: Literal["forecasting"] = "forecasting"


class ForecastDatasetInfo(DatasetInfo):
    """What was found about the series."""

    task: Literal["forecasting"] = "forecasting"
    series: Mapping[str, int]

    @property
    def sizes(self) -> Mapping[str, int]:
        """How many series are in each part."""
        return self.series


class Report(Frozen):
    """What a run finds beside its metrics."""

    bias: float
    worst_month: str
    residuals: tuple[float, ...]


class Forecasting:
    """What server and pages need of the task."""

    name = "forecasting"
    example = "sequence"
    metrics: Mapping[str, Metric] = {
        "skill": Metric("maximize", high=1.0),
        "energy": Metric("minimize", low=0.0, unit="kWh", additive=True),
    }
    Report: type[BaseModel] = Report
    TestReport: type[BaseModel] = Report
    Hyperparameters = Hyperparameters
    size = None
    stand_ins: Mapping[str, Any] = {
        "data": {"path": "data.csv"},
        "model": {"name": "linear"},
        "objective": {"metric": "skill", "direction": "maximize"},
    }
    lines: Mapping[str, str] = {}

    def models(self) -> Collection[str]:
        """One."""
        return ("linear",)

    def describe(self, model: str) -> ModelInfo:
        """The one without stages."""
        return Linear()

    def count(self, data: DataConfig, look: Look) -> Counted:
        """None, as nothing is read."""
        raise NotImplementedError


class Linear:
    """The model."""

    stages = 0
    weights = ()

    def fault_of(self, name: str, value: object) -> None:
        """Every value fits."""

    def refuse_weights(self, outline: object, file_name: str) -> None:
        """There are none."""
        raise NotImplementedError


SPEC = Forecasting()
