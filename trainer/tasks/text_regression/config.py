"""Models of text regression: those of texts, and those of numbers. Imports no torch."""

from typing import Literal

from trainer.targets.numbers.config import NumberHyperparameters, NumberInfo
from trainer.tasks.text.config import TextDatasetInfo, TextHyperparameters, TextTrainConfig


class TextRegressionHyperparameters(TextHyperparameters, NumberHyperparameters):
    """Hyperparameters of text regression."""


class TextRegressionConfig(TextRegressionHyperparameters, TextTrainConfig):
    """The complete configuration of one run of text regression."""

    task: Literal["text_regression"] = "text_regression"


class TextRegressionInfo(TextDatasetInfo, NumberInfo):
    """Facts about texts with a number each, and about weights."""

    task: Literal["text_regression"] = "text_regression"
