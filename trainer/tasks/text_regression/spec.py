"""The TaskSpec of text regression. Imports no torch."""

from collections.abc import Mapping
from typing import Any

from trainer.targets.numbers.spec import NumbersSpec
from trainer.tasks.text.spec import TextSpec, lines, stand_ins
from trainer.tasks.text_regression.config import TextRegressionHyperparameters


class TextRegression(TextSpec):
    """Texts with a number each, as `trainer.tasks.base.TaskSpec`."""

    name = "text_regression"
    target = NumbersSpec(TextSpec.example)
    Hyperparameters = TextRegressionHyperparameters
    stand_ins: Mapping[str, Any] = stand_ins("rmse", "minimize")
    lines: Mapping[str, str] = lines(name, "rmse", "minimize")


SPEC = TextRegression()
