"""The task `script`: any program, whose parameters and metrics have any names. It has no half with torch, but a runner."""

from collections.abc import Collection, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from trainer.configuration import DataConfig, Frozen
from trainer.data.examples import Look, UnfitData
from trainer.tasks.base import Counted, Metric, ModelInfo, TaskSpec
from trainer.tasks.script.config import RUNNER


class FreeParameters(Frozen):
    """Parameters of any name."""

    model_config = ConfigDict(extra="allow")


class NoReport(Frozen):
    """A script reports metrics alone."""


class Script(TaskSpec):
    """See the module."""

    name = "script"
    example = "example"
    metrics: Mapping[str, Metric] = {}
    Report: type[BaseModel] = NoReport
    TestReport: type[BaseModel] = NoReport
    Hyperparameters: type[BaseModel] = FreeParameters
    size = None
    runner = RUNNER
    stand_ins: Mapping[str, Any] = {
        "command": ["python"], "workdir": "/", "objective": {"metric": "loss", "direction": "minimize"},
    }  # fmt: skip
    lines: Mapping[str, str] = {
        "command": 'command: [python, train.py, "${args}"]',
        "workdir": "workdir: /path/to/the/script",
        "search_space": "search_space: {lr: {type: float, low: 1.0e-5, high: 0.1, log: true}}",
        "objective": "objective: {metric: loss, direction: minimize}",
    }

    def models(self) -> Collection[str]:
        """None."""
        return ()

    def describe(self, model: str) -> ModelInfo:
        """There is no model that this project knows."""
        raise KeyError(model)

    def count(self, data: DataConfig, look: Look) -> Counted:
        """There is no data that this project reads."""
        raise UnfitData("no_data", "a script reads its data itself")


SPEC = Script()
